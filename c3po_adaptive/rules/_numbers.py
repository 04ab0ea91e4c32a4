"""Numbers as rules write them: one by one, in ranges, and with a sign."""

from __future__ import annotations

import re
from typing import Any

from ..errors import SettingError

MOST = 2**15  # experts or layers that there may be: a range is written out


def numbers(text: str) -> tuple[int, ...] | None:
    """Whole numbers and ranges ``a-b``, as they are written, parted by commas or slashes; None: something else.

    Slashes are for where commas part arguments already, as in lm-evaluation-harness's ``--model_args``.
    """
    found: list[int] = []
    for part in re.split("[,/]", text):
        if not (bounds := re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)):
            return None
        first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        if last < first or last >= MOST:
            return None
        found += range(first, last + 1)
    return tuple(found)


def experts_in(name: str, text: str) -> tuple[int, ...]:
    """Numbers of experts in a text.

    Raises:
        SettingError: with how they are written.
    """
    found = numbers(text)
    if found is None:
        raise SettingError(
            f"Expected experts of rule {name!r} as numbers such as 3, 3,5 or 0-7, got {text!r}; write them so."
        )
    return found


def check_experts(name: str, experts: Any) -> None:
    """Refuse what are no experts' numbers.

    Raises:
        SettingError: none, negative ones, one twice, or something else.
    """
    there = isinstance(experts, tuple) and bool(experts) and all(type(one) is int and one >= 0 for one in experts)
    if not there or len(set(experts)) < len(experts):
        raise SettingError(f"Expected {name}.experts to be different numbers from 0 on, got {experts!r}; give some.")


def check_there(name: str, experts: tuple[int, ...], count: int) -> None:
    """Refuse experts that a layer does not have.

    Raises:
        SettingError: with how many it has.
    """
    if beyond := [one for one in experts if one >= count]:
        raise SettingError(
            f"Expected experts of rule {name!r} from 0 to {count - 1}, as each layer has {count}, got "
            f"{', '.join(map(str, beyond[:8]))}; name others."
        )


def read_number(text: str) -> int | float | str:
    """A number if a text is one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
