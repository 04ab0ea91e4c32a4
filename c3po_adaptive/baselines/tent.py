"""TENT: entropy minimisation at test time, on the scales of the norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..answerers.base import Answerer, AnswererStrategy, Bench
from ..checks import check_number

if TYPE_CHECKING:
    from ..remixing.strategies import Strategies


@dataclass(frozen=True, kw_only=True)
class Tent(AnswererStrategy):
    """Entropy of each question's own choices, lowered by the scales of all norms (Wang et al. 2021, arXiv 2006.10726).

    No label and no reference is looked at. The paper adapts batch after batch; here each question starts from the model
    as it was, so that its answer does not depend on others. Biases of norms, where a family has them, stay.

    Attributes:
        steps: of Adam.
        lr: learning rate.
    """

    steps: int = 1
    lr: float = 1e-3
    name: ClassVar[str] = "tent"
    likelihoods: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number(self, "steps", at_least=0, whole=True)
        check_number(self, "lr", above=0)

    def prepare(self, bench: Bench) -> Answerer:
        from ._adapting import Adapting

        return Adapting(bench, self.steps, self.lr)

    def learns(self, strategies: Strategies) -> bool:
        return False

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ()
