"""What rules about some experts share: their numbers, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import SettingError
from .base import NamedRule
from .text import numbers


@dataclass(frozen=True)
class OfExperts(NamedRule):
    """A rule about experts of these numbers, written as ``3,5`` or ``3-5``.

    Attributes:
        experts: their numbers.
    """

    experts: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        experts = self.experts
        there = isinstance(experts, tuple) and bool(experts) and all(type(one) is int and one >= 0 for one in experts)
        if not there or len(set(experts)) < len(experts):
            raise SettingError(
                f"Expected {self.name}.experts to be different numbers from 0 on, got {experts!r}; give some."
            )

    @classmethod
    def read(cls, text: str) -> Mapping[str, object]:
        found = numbers(text)
        if found is None:
            raise SettingError(
                f"Expected experts of rule {cls.name!r} as numbers such as 3, 3,5 or 0-7, got {text!r}; write them so."
            )
        return {"experts": found}

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        super().fits(layers, experts)
        if beyond := [one for one in self.experts if one >= experts]:
            raise SettingError(
                f"Expected experts of rule {self.name!r} from 0 to {experts - 1}, as each layer has {experts}, got "
                f"{', '.join(map(str, beyond[:8]))}; name others."
            )
