"""A number added to the scores of some experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ..checks import FLOAT32_MAX
from ..errors import SettingError
from ._of_experts import OfExperts
from .text import read_number

if TYPE_CHECKING:
    from ..routing.choice import Choice


@dataclass(frozen=True)
class Bias(OfExperts):
    """A number added to the router scores (logits) of experts: ``bias:3=+2.5``, ``bias:3,5=-1@16``.

    Attributes:
        experts: their numbers.
        by: what is added.
    """

    by: Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
    name: ClassVar[str] = "bias"

    @classmethod
    def read(cls, text: str) -> Mapping[str, object]:
        experts, equals, by = text.partition("=")
        if not equals:
            raise SettingError(f"Expected rule 'bias' as experts=number, got {text!r}; write bias:3=+2.5.")
        return {**super().read(experts), "by": read_number(by)}

    def edit(self, choice: Choice) -> Choice:
        return replace(choice, scores=choice.scores + self.by * choice.among(self.experts))
