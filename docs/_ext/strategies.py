"""``.. strategies::``: every strategy of the package and its companions by role, from the registry."""

from __future__ import annotations

from sphinx.application import Sphinx
from written import Written

from c3po_adaptive.cli.parameters import parameters
from c3po_adaptive.registry import ROLES, Registration, new_registry


def shipped() -> dict[str, list[Registration]]:
    """By role, in the order of the registry's table; not those of others' plugins, which it knows by a hash."""
    registry = new_registry()
    found = [entry for entry in registry.table() if entry.plugin not in registry.files]
    return {role: [entry for entry in found if entry.role == role] for role in ROLES}


class Strategies(Written):
    """A section for each role: a table, then each strategy with its parameters."""

    def text(self) -> str:
        """In reStructuredText, for docstrings are."""
        parts = []
        for role, entries in shipped().items():
            base, hook = ROLES[role]
            title = f"{role.capitalize()}s"
            parts += [title, "-" * len(title), ""]
            parts += [f"Subclasses of :class:`~c3po_adaptive.{base.__name__}`, brought by the hook ``{hook}``.", ""]
            parts += [".. list-table::", "   :widths: 25 75", ""]
            for entry in entries:
                parts += [f"   * - :class:`{entry.name} <{entry.module}.{entry.cls.__name__}>`", f"     - {entry.doc}"]
            parts += [""]
            for entry in entries:
                parts += [entry.name, "~" * len(entry.name), ""]
                found = parameters(entry)
                given = [f"{p.name}: {p.type}" + ("" if p.required else f" = {p.default!r}") for p in found]
                parts += [f".. autoclass:: {entry.module}.{entry.cls.__name__}({', '.join(given)})", ""]
                parts += ["   " + "; ".join(f"``{p.name}``: {p.allowed}" for p in found if p.allowed), ""]
        return "\n".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_directive("strategies", Strategies)
    return {"parallel_read_safe": True}
