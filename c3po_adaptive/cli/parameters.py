"""What a strategy can be made with, as far as its class tells: types, defaults, what is allowed, what it means."""

from __future__ import annotations

import re
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from inspect import formatannotation, getdoc
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from ..checks import in_words, kinds_of, part_of, schema_of, tells, types_of
from ..registry import Registration


@dataclass(frozen=True)
class Parameter:
    """One that a strategy has.

    Attributes:
        name: of it.
        type: as its class has it.
        allowed: values or their range, as its type says them; "": it says nothing.
        required: whether it must be given.
        default: what it is otherwise, in plain values.
        meaning: from the class's documentation.
    """

    name: str
    type: str
    allowed: str
    required: bool
    default: Any
    meaning: str

    def __str__(self) -> str:
        allowed = f"; {self.allowed}" if self.allowed else ""
        told = f"{self.name}: {'must be given' if self.required else repr(self.default)}  ({self.type}{allowed})"
        return f"{told}\n      {self.meaning}" if self.meaning else told


def parameters(entry: Registration) -> list[Parameter]:
    """Those of a registered strategy."""
    given = entry.parameters
    meanings = {
        name: said for cls in reversed(entry.cls.__mro__) for name, said in _meanings(getdoc(cls) or "").items()
    }
    return [
        Parameter(
            f.name,
            *_type(entry.cls, f.name),
            required=given[f.name] is MISSING,
            default=None if given[f.name] is MISSING else _plain(given[f.name]),
            meaning=meanings.get(f.name, ""),
        )
        for f in fields(entry.cls)
        if f.name in given
    ]


def _type(cls: Any, name: str) -> tuple[str, str]:
    """Its type, and what is allowed of it."""
    hints = types_of(cls)[name]
    hint = next(filter(tells, hints), hints[0])
    named = dict.fromkeys(_name(kind) for kind in kinds_of(hint))
    return " | ".join(named), in_words(schema_of(hint)) if tells(hint) and not part_of(hint) else ""


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(dict.fromkeys(type(value).__name__ for value in get_args(kind)))
    if kind is NoneType:
        return "None"
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else formatannotation(kind)


def _meanings(doc: str) -> dict[str, str]:
    """Entries under ``Attributes:`` or ``Args:``, by name."""
    found: dict[str, str] = {}
    name, inside = "", False
    for line in doc.splitlines():
        if line.strip() in ("Attributes:", "Args:"):
            inside = True
        elif inside and (entry := re.match(r" {4}(\w+): (.*)", line)):
            name = entry[1]
            found[name] = entry[2]
        elif inside and name and line.startswith(" " * 8):
            found[name] += f" {line.strip()}"
        elif line.strip() and not line.startswith(" "):
            inside = False
    return found


def _plain(value: Any) -> Any:
    """As JSON can hold it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"name": getattr(value, "name", type(value).__name__), **asdict(value)}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
