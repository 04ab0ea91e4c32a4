"""Checks of settings, for the ``__post_init__`` of strategies."""

from __future__ import annotations

import math
import operator
from numbers import Integral, Real
from typing import Any

from .errors import SettingError

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
"""The largest number that float32 holds, for those who do without torch."""


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
