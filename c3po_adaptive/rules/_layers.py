"""Which layers a rule is for, as it says in words."""

from __future__ import annotations

import re

from ..errors import SettingError
from .text import numbers

WRITTEN = "all, last-5, or numbers such as 16, 16-20 or 3/16-20"


def check_layers(name: str, text: object) -> None:
    """Refuse what names no layers.

    Raises:
        SettingError: with how they are written.
    """
    if text == "all" or (isinstance(text, str) and re.fullmatch(r"last-[1-9]\d{0,4}", text)):
        return
    found = numbers(text) if isinstance(text, str) else None
    if found is None:
        raise SettingError(f"Expected layers of rule {name!r} as {WRITTEN}, got {text!r}; write them so behind @.")
    if len(set(found)) < len(found):
        raise SettingError(f"Expected each layer of rule {name!r} once, got {text!r}; name it once.")


def acting(name: str, text: str, layers: tuple[int, ...]) -> tuple[int, ...]:
    """Those among a model's MoE layers ``layers`` that a text means.

    Raises:
        SettingError: numbers that are none of them, or more than there are.
    """
    if text == "all":
        return layers
    if text.startswith("last-"):
        count = int(text.removeprefix("last-"))
        if count > len(layers):
            raise SettingError(f"Expected rule {name!r} in at most {len(layers)} MoE layers, got {text!r}; name fewer.")
        return layers[-count:]
    wanted = numbers(text) or ()
    if missing := sorted(set(wanted) - set(layers)):
        raise SettingError(
            f"Expected layers of rule {name!r} among the MoE layers {', '.join(map(str, layers))}, got "
            f"{', '.join(map(str, missing[:8]))}; take some of these, or last-{min(5, len(layers))}."
        )
    return wanted
