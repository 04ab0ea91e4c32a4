"""Experts that are always chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ._of_experts import OfExperts

if TYPE_CHECKING:
    from ..routing.choice import Choice


@dataclass(frozen=True)
class Force(OfExperts):
    """Experts that are always chosen: ``force:2@last-5``. They are among the k, weighed by their own scores.

    Attributes:
        experts: their numbers.
    """

    name: ClassVar[str] = "force"

    def edit(self, choice: Choice) -> Choice:
        return replace(choice, forced=choice.forced | choice.among(self.experts))
