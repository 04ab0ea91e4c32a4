"""A temperature of router scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ..checks import FLOAT32_MAX
from .base import NamedRule

if TYPE_CHECKING:
    from ..routing.choice import Choice


@dataclass(frozen=True)
class Temperature(NamedRule):
    """Router scores (logits) divided by a number: ``temperature:0.5``. Below 1 the best experts weigh more.

    Attributes:
        value: what they are divided by.
    """

    value: Annotated[float, Field(gt=0, le=FLOAT32_MAX)]
    name: ClassVar[str] = "temperature"

    def edit(self, choice: Choice) -> Choice:
        return replace(choice, scores=choice.scores / self.value)
