"""Experts that are always chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ._numbers import check_experts, check_there, experts_in
from .base import NamedRule

if TYPE_CHECKING:
    from ..routing.choice import Choice


@dataclass(frozen=True)
class Force(NamedRule):
    """Experts that are always chosen: ``force:2@last-5``. They are among the k, weighed by their own scores.

    Attributes:
        experts: their numbers.
    """

    experts: tuple[int, ...]
    name: ClassVar[str] = "force"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_experts(self.name, self.experts)

    @classmethod
    def read(cls, text: str) -> Mapping[str, object]:
        return {"experts": experts_in(cls.name, text)}

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        super().fits(layers, experts)
        check_there(self.name, self.experts, experts)

    def edit(self, choice: Choice) -> Choice:
        return replace(choice, forced=choice.forced | choice.among(self.experts))
