"""Every strategy and every public name with a line each, for who reads the repository."""

from __future__ import annotations

import inspect

from public_names import by_room
from strategies import shipped
from written import Written, table

import c3po_adaptive


class Names(Written):
    """A section for each role, then one for each room."""

    def text(self) -> str:
        """Tables of names and what they are."""
        parts = ["## Strategies\n", "`c3po plugins show NAME` prints the parameters of one.\n"]
        for role, entries in shipped().items():
            rows = [[f"`{entry.name}`", f"{_first(entry.cls)}{_from(entry.module)}"] for entry in entries]
            parts += [f"### {role.capitalize()}s\n", table(("name", "what it does"), rows)]
        parts += ["## Python\n", "From the package itself: `from c3po_adaptive import …`; `help(…)` prints the rest.\n"]
        for room, names in by_room().items():
            parts += [f"### {room}\n", table(("name", "what it is"), [[f"`{name}`", _line(name)] for name in names])]
        return "\n".join(parts)


def _from(module: str) -> str:
    """Which companion brings it."""
    package = module.partition(".")[0]
    return "" if package == c3po_adaptive.__name__ else f" From `{package}`."


def _line(name: str) -> str:
    value = getattr(c3po_adaptive, name)
    return _first(value) if inspect.isclass(value) or inspect.isroutine(value) else f"a `{type(value).__name__}`"


def _first(value: object) -> str:
    """The first paragraph of its documentation, in Markdown."""
    said = (inspect.getdoc(value) or "").partition("\n\n")[0]
    return " ".join(said.split()).replace("``", "`")
