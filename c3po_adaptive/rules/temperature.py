"""A temperature of router scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ..checks import FLOAT32_MAX, check_number
from .base import NamedRule

if TYPE_CHECKING:
    from ..routing.choice import Choice


@dataclass(frozen=True)
class Temperature(NamedRule):
    """Router scores (logits) divided by a number: ``temperature:0.5``. Below 1 the best experts weigh more.

    Attributes:
        value: what they are divided by.
    """

    value: float
    name: ClassVar[str] = "temperature"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "value", above=0, at_most=FLOAT32_MAX)

    def edit(self, choice: Choice) -> Choice:
        return replace(choice, scores=choice.scores / self.value)
