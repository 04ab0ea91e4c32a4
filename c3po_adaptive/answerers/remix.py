"""Re-mixing as an answerer: C3PO and its kin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..settings import RemixSettings
from ..types import Changes
from .base import Answerer, AnswererStrategy, AnsweringContext

if TYPE_CHECKING:
    from ..remixing.strategies import Strategies


@dataclass(frozen=True)
class Remix(AnswererStrategy):
    """The arm's optimizer re-mixes what its selector chooses, by the neighbours of its retriever and kernel."""

    name: ClassVar[str] = "remix"
    likelihoods: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def prepare(self, context: AnsweringContext) -> Answerer:
        return context.remixer()

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        from ..remixing.training import check_enough

        if strategies.re_mixes:
            strategies.selector.fits(layers, experts)
            check_enough(strategies.references_needed, references)

    def learns(self, strategies: Strategies) -> bool:
        learn = strategies.references_needed > 0 or (
            strategies.needs_neighbours and (strategies.kernel.learns or strategies.retriever.learns)
        )
        return strategies.re_mixes and learn

    def changes(self, strategies: Strategies) -> Changes:
        return strategies.optimizer.changes

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        selector = ("selector",) if strategies.re_mixes else ()
        neighbours = ("kernel", "retriever") if strategies.re_mixes and strategies.shows_neighbours else ()
        return ("optimizer", *selector, *neighbours, *RemixSettings.model_fields)
