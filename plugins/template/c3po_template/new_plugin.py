"""A plugin to begin with: a small package with a strategy that works, its contract as tests, and its entry point."""

from __future__ import annotations

import keyword
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from c3po_adaptive import PluginError, Registry, new_folder

NAMES = {
    "pyproject.toml.j2": "pyproject.toml",
    "README.md.j2": "README.md",
    "{role}.py.j2": "{module}.py",
    "test.py.j2": "test_{module}.py",
    "ci.yml.j2": ".github/workflows/ci.yml",
}
"""Each template, and what is made of it."""


def new_plugin(name: str, role: str, folder: Path, registry: Registry) -> list[Path]:
    """Write the package into a new folder; its files.

    Raises:
        PluginError: a name that is no kebab case, or that a strategy of that role has already.
        DataError: the folder is there, or cannot be made.
    """
    module, cls = name.replace("-", "_"), _class_name(name)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise PluginError(f"Expected a name in kebab case, such as my-{role}, got {name!r}.")
    if keyword.iskeyword(module) or find_spec(module) is not None or cls in dir(import_module("c3po_adaptive")):
        raise PluginError(f"Expected a name that nothing has in Python, got {name!r}; take my-{name}, for example.")
    if name in registry.names(role):
        raise PluginError(f"Expected a name that no {role} has yet, got {name!r}; c3po plugins list shows them.")
    with new_folder(folder, "folder for the plugin") as made:
        files = [_written(made, template, target, name, role, module) for template, target in NAMES.items()]
    return [folder / file.relative_to(made) for file in files]


def _written(made: Path, template: str, target: str, name: str, role: str, module: str) -> Path:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("c3po_template", "files")
    # Nothing is escaped: what is written is Python, TOML and YAML, of a name that was checked.
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    path = made / target.format(module=module)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = environment.get_template(template.format(role=role)).render(
        name=name,
        role=role,
        module=module,
        package=f"c3po-{name}",
        cls=_class_name(name),
        article="An" if role[0] in "ao" else "A",
    )
    path.write_text(text, encoding="utf-8")
    return path


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))
