"""What is trained in a frozen model, and who says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import nn

from ..routing.whole_prompts import PromptPrefix
from ..types import Prompt

if TYPE_CHECKING:
    from ..models.routed import RoutedModel
    from ..remixing.strategies import Strategies


@dataclass(frozen=True, eq=False)
class Tuning:
    """What is trained, and how it is put into the model.

    Attributes:
        parameters: in float32, by name.
        placed: the model with them inside the block; gives what prompts begin with.
        layer: the first decoder layer that they act in.
        weights: how many of them every token is multiplied with.
    """

    parameters: dict[str, nn.Parameter]
    placed: Callable[[], AbstractContextManager[PromptPrefix]]
    layer: int = 0
    weights: int = 0


class Learner(Protocol):
    """A strategy that trains, with what its training goes by."""

    @property
    def name(self) -> str: ...

    @property
    def epochs(self) -> int: ...

    @property
    def lr(self) -> float: ...

    @property
    def batch(self) -> int: ...

    @property
    def patience(self) -> int: ...

    @property
    def uses_peft(self) -> bool: ...

    def used(self, strategies: Strategies) -> tuple[str, ...]: ...

    def tuning(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tuning:
        """What is trained, as it is before it is; ``prompts`` are those learned from."""
