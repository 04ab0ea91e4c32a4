"""What rules about some experts share: their numbers, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ._numbers import check_experts, check_there, experts_in
from .base import NamedRule


@dataclass(frozen=True)
class OfExperts(NamedRule):
    """A rule about experts of these numbers, written as ``3,5`` or ``3-5``.

    Attributes:
        experts: their numbers.
    """

    experts: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_experts(self.name, self.experts)

    @classmethod
    def read(cls, text: str) -> Mapping[str, object]:
        return {"experts": experts_in(cls.name, text)}

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        super().fits(layers, experts)
        check_there(self.name, self.experts, experts)
