"""A number added to the scores of some experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ..checks import check_number
from ..errors import SettingError
from ._numbers import check_experts, check_there, experts_in, read_number
from .base import NamedRule

if TYPE_CHECKING:
    from ..routing.choice import Choice


@dataclass(frozen=True)
class Bias(NamedRule):
    """A number added to the router scores (logits) of experts: ``bias:3=+2.5``, ``bias:3,5=-1@16``.

    Attributes:
        experts: their numbers.
        by: what is added.
    """

    experts: tuple[int, ...]
    by: float
    name: ClassVar[str] = "bias"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_experts(self.name, self.experts)
        check_number(self, "by")

    @classmethod
    def read(cls, text: str) -> Mapping[str, object]:
        experts, equals, by = text.partition("=")
        if not equals:
            raise SettingError(f"Expected rule 'bias' as experts=number, got {text!r}; write bias:3=+2.5.")
        return {"experts": experts_in(cls.name, experts), "by": read_number(by)}

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        super().fits(layers, experts)
        check_there(self.name, self.experts, experts)

    def edit(self, choice: Choice) -> Choice:
        return replace(choice, scores=choice.scores + self.by * choice.among(self.experts))
