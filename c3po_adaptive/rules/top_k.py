"""Another number of experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import PositiveInt

from ..errors import SettingError
from .base import NamedRule

if TYPE_CHECKING:
    from ..routing.choice import Choice


@dataclass(frozen=True)
class TopK(NamedRule):
    """How many experts a token uses: ``top-k:1``. As the model would be with another number of experts per token.

    Attributes:
        k: how many.
    """

    k: PositiveInt
    name: ClassVar[str] = "top-k"

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        super().fits(layers, experts)
        if self.k > experts:
            raise SettingError(f"Expected top-k.k of at most {experts}, the experts of a layer, got {self.k}.")

    def edit(self, choice: Choice) -> Choice:
        return replace(choice, k=self.k)
