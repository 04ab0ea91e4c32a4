"""Checks of settings, for the ``__post_init__`` of strategies."""

from __future__ import annotations

import math
import operator
import sys
from dataclasses import MISSING, Field, fields
from functools import cache
from inspect import get_annotations
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any, get_type_hints

from .errors import PluginError, SettingError

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
"""The largest number that float32 holds, for those who do without torch."""


def default_of(field: Field[Any]) -> Any:
    """What a dataclass's field is where it is not given; MISSING: it has to be."""
    return field.default if field.default_factory is MISSING else field.default_factory()


@cache
def types_of(cls: Any) -> dict[str, tuple[Any, ...]]:
    """The types of a dataclass's parameters: as its class annotates each, and then the classes that it inherits from.

    Fields with ``repr=False`` are learned state, not parameters, and may be annotated with what is imported for type
    checkers only.

    Raises:
        PluginError: a type cannot be looked up.
    """
    found: dict[str, tuple[Any, ...]] = {f.name: () for f in fields(cls) if f.init and f.repr}
    for kind in cls.__mro__:
        for name, hint in get_annotations(kind).items():
            if name in found:
                found[name] += (_resolved(kind, name, hint),)
    return found


def _resolved(cls: type, name: str, hint: Any) -> Any:
    """A type whose annotation may be text."""
    there = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    try:
        return get_type_hints(SimpleNamespace(__annotations__={name: hint}), there, include_extras=True)[name]
    except Exception as error:
        raise PluginError(
            f"Expected the type of {cls.__name__}.{name} to be there when it runs, got {hint!r} ({error}); it says "
            "what the parameter may be, so import it outside of TYPE_CHECKING."
        ) from error


def check_number(
    strategy: Any,
    field: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    whole: bool = False,
    hint: str = "",
) -> None:
    """Refuse a field that is not a finite number within its bounds.

    Args:
        strategy: the object whose ``field`` is checked; its ``name`` opens the message.
        field: which of its fields.
        above: what it has to be greater than, if anything.
        at_least: the smallest that will do, if there is one.
        at_most: the greatest that will do, if there is one.
        whole: only integers will do.
        hint: what to do next; by default, to choose such a number.

    Raises:
        SettingError: if the value is anything else; a bool is not a number here.
    """
    value = getattr(strategy, field)
    bounds = [(">", above, operator.gt), (">=", at_least, operator.ge), ("<=", at_most, operator.le)]
    given = [(sign, bound, holds) for sign, bound, holds in bounds if bound is not None]
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    number = number and value == value and abs(value) != math.inf  # math.isfinite refuses whole numbers beyond floats
    if number and all(holds(value, bound) for _, bound, holds in given):
        return
    kind = "a whole number " if whole else "a finite number "
    kind += " and ".join(f"{sign} {bound:g}" for sign, bound, _ in given)
    raise SettingError(
        f"Expected {strategy.name}.{field} to be {kind.strip()}, got {value!r}; {hint or 'give such a number'}."
    )


def check_part(strategy: Any, field: str, base: type) -> None:
    """Refuse a field that is not a strategy of the class ``base``.

    Raises:
        SettingError: it is anything else, such as a name, which only the registry can look up.
    """
    value = getattr(strategy, field)
    if not isinstance(value, base):
        raise SettingError(
            f"Expected {strategy.name}.{field} to be a {base.__name__}, got {value!r}; names are looked up where "
            f'{strategy.name} itself is given by name: {{"name": "{strategy.name}", "{field}": …}}.'
        )
