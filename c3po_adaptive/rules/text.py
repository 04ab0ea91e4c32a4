"""The text that names rules: ``NAME:WHAT@LAYERS``, several joined by semicolons; and numbers as it has them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import SettingError

WRITTEN = "ban:3,5@16-20, force:2@last-5, top-k:1, bias:3=+2.5 or temperature:0.5, several joined by ;"
MOST = 2**15  # experts or layers that there may be: a range is written out


@dataclass(frozen=True)
class RuleText:
    """One rule, as a text names it.

    Attributes:
        name: of the rule.
        what: behind the colon; None: there is none.
        layers: behind the @; None: there is none.
    """

    name: str
    what: str | None
    layers: str | None


def rule_texts(text: str) -> list[RuleText]:
    """The rules that a text names, in order; underscores in names are read as hyphens (``top_k`` is ``top-k``).

    Raises:
        SettingError: an empty one.
    """
    found = []
    for part in text.split(";"):
        head, at, layers = part.strip().partition("@")
        name, colon, what = head.partition(":")
        if not name.strip()[:1].isalpha() or (colon and not what.strip()) or (at and not layers.strip()):
            hint = (
                "where commas part arguments, put / between numbers: 3/5."
                if part.strip()[:1].isdigit()
                else "write it so."
            )
            raise SettingError(f"Expected a rule such as {WRITTEN}; got {part.strip()!r} in {text!r}; {hint}")
        found.append(
            RuleText(name.strip().replace("_", "-"), what.strip() if colon else None, layers.strip() if at else None)
        )
    return found


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
