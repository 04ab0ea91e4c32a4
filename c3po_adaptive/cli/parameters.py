"""What a strategy can be made with, as far as its class tells: types, defaults, what is allowed, what it means."""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass
from inspect import formatannotation, getdoc
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import C3POError
from ..registry import Registration

NOBODY = {int: float("nan"), float: float("nan"), str: "?"}
"""Of each type a value that no parameter takes: refusing it, a class says what it would have."""


@dataclass(frozen=True)
class Parameter:
    """One that a strategy has.

    Attributes:
        name: of it.
        type: as its class has it.
        allowed: values or their range, in the words of the class; "": it says nothing.
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
            *_type(entry.cls, f),
            required=given[f.name] is MISSING,
            default=None if given[f.name] is MISSING else _plain(given[f.name]),
            meaning=meanings.get(f.name, ""),
        )
        for f in fields(entry.cls)
        if f.name in given
    ]


def _type(cls: Any, field: Field[Any]) -> tuple[str, str]:
    """Its type, and what is allowed of it."""
    try:
        hint = get_type_hints(cls)[field.name]
    except Exception:  # what a plugin annotates with may be imported for type checkers only
        return (field.type if isinstance(field.type, str) else formatannotation(field.type)), ""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    values = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    plain = [kind for kind in kinds if get_origin(kind) is not Literal]
    named = [*(type(value).__name__ for value in values), *("None" if k is NoneType else _name(k) for k in plain)]
    said = (_refusal(cls, field.name, NOBODY[kind]) for kind in plain if kind in NOBODY)
    allowed = [next(filter(None, said), ""), ", ".join(map(repr, values))]
    return " | ".join(dict.fromkeys(named)), ", or ".join(filter(None, allowed))


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else formatannotation(kind)


def _refusal(cls: Any, name: str, value: Any) -> str:
    """What a class says that it expects of a parameter, when it gets something else."""
    try:
        cls(**{name: value})
    except C3POError as error:
        of = rf"(?:[\w-]+\.)?{re.escape(name)} (?:to be )?"
        got = rf"[,;] got {re.escape(repr(value))}"
        found = re.match(rf"Expected (?:{of})(.*?){got}", str(error), re.DOTALL)
        names = re.search(rf"{got}; there are (.*?); ", str(error))
        return f"among {names[1]}" if names else found[1] if found else ""
    except Exception:  # another parameter must be given, or the class does not check
        return ""
    return ""


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
