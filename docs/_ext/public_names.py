"""``.. public-names::``: every name of the package's root, room by room, from docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

from sphinx.application import Sphinx
from written import Written

import c3po_adaptive
from c3po_adaptive._lazy import homes


def by_room() -> dict[str, list[str]]:
    """Names of ``__all__`` by the folder or file that they are of."""
    found: dict[str, list[str]] = {}
    for name, home in homes(c3po_adaptive.__file__).items():
        found.setdefault(home.lstrip(".").partition(".")[0], []).append(name)
    return dict(sorted(found.items(), key=lambda item: ("api" not in item[0], item[0])))


def members_of(value: type) -> list[str]:
    """What is shown of a class: its own members, and those of bases of ours that have no place of their own."""
    others = [base for base in value.__mro__[1:] if base.__name__ not in c3po_adaptive.__all__]
    ours = any(base.__module__.startswith("c3po_adaptive") for base in others)
    return ["   :members:", *(["   :inherited-members: BaseModel, Exception"] if ours else [])]


class PublicNames(Written):
    """A section for each room."""

    def text(self) -> str:
        """What the room is, and its names."""
        parts = []
        for room, names in by_room().items():
            file = inspect.getsourcefile(importlib.import_module(f"c3po_adaptive.{room}"))
            said = (ast.get_docstring(ast.parse(Path(str(file)).read_text(encoding="utf-8"))) or "").partition("\n\n")[
                0
            ]
            parts += [room, "-" * len(room), "", said, ""]
            for name in names:
                value = getattr(c3po_adaptive, name)
                kind = "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else "autodata"
                if name == "hookimpl":
                    kind = "autodata"
                options = members_of(value) if inspect.isclass(value) else []
                parts += [f".. {kind}:: c3po_adaptive.{name}", *options, ""]
        return "\n".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
