"""Another number of experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ..checks import check_number
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

    k: int
    name: ClassVar[str] = "top-k"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "k", at_least=1, whole=True)

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        super().fits(layers, experts)
        if self.k > experts:
            raise SettingError(f"Expected top-k.k of at most {experts}, the experts of a layer, got {self.k}.")

    def edit(self, choice: Choice) -> Choice:
        return replace(choice, k=self.k)
