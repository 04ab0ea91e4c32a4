"""Experts that may not be chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ._of_experts import OfExperts

if TYPE_CHECKING:
    from ..routing.choice import Choice


@dataclass(frozen=True)
class Ban(OfExperts):
    """Experts that may not be chosen: ``ban:3,5@16-20``. Others are, as if the router had no such experts.

    Attributes:
        experts: their numbers.
    """

    name: ClassVar[str] = "ban"

    def edit(self, choice: Choice) -> Choice:
        return replace(choice, banned=choice.banned | choice.among(self.experts))
