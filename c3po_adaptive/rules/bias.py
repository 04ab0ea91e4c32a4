"""A number added to the scores of some experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ..checks import FLOAT32_MAX, check_number
from ..errors import SettingError
from ._numbers import read_number
from ._of_experts import OfExperts

if TYPE_CHECKING:
    from ..routing.choice import Choice


@dataclass(frozen=True)
class Bias(OfExperts):
    """A number added to the router scores (logits) of experts: ``bias:3=+2.5``, ``bias:3,5=-1@16``.

    Attributes:
        experts: their numbers.
        by: what is added.
    """

    by: float
    name: ClassVar[str] = "bias"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "by", at_least=-FLOAT32_MAX, at_most=FLOAT32_MAX)

    @classmethod
    def read(cls, text: str) -> Mapping[str, object]:
        experts, equals, by = text.partition("=")
        if not equals:
            raise SettingError(f"Expected rule 'bias' as experts=number, got {text!r}; write bias:3=+2.5.")
        return {**super().read(experts), "by": read_number(by)}

    def edit(self, choice: Choice) -> Choice:
        return replace(choice, scores=choice.scores + self.by * choice.among(self.experts))
