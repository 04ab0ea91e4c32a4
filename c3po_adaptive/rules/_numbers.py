"""Numbers as rules write them: one by one, in ranges, and with a sign."""

from __future__ import annotations

import re

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


def read_number(text: str) -> int | float | str:
    """A number if a text is one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
