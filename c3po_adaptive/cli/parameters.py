"""What a strategy can be made with, as far as its class tells: types, defaults, what is allowed, what it means."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from inspect import formatannotation
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from ..checks import in_words, kinds_of, part_of, schema_of, tells, types_of
from ..registry import Registration, Registry
from ..registry.roles import role_of
from ..settings import meanings


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
        line = f"{self.name}: {'must be given' if self.required else repr(self.default)}  ({self.type}{allowed})"
        return f"{line}\n      {self.meaning}" if self.meaning else line


def parameters(entry: Registration) -> list[Parameter]:
    """Those of a registered strategy."""
    defaults = entry.parameters
    said = meanings(entry.cls)
    return [
        Parameter(
            f.name,
            *_type(entry.cls, f.name),
            required=defaults[f.name] is MISSING,
            default=None if defaults[f.name] is MISSING else _plain(defaults[f.name]),
            meaning=said.get(f.name, ""),
        )
        for f in fields(entry.cls)
        if f.name in defaults
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


def _plain(value: Any) -> Any:
    """As JSON can hold it."""
    if role_of(type(value)):
        return Registry.describe(value)
    if isinstance(value, tuple):
        return [*value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
