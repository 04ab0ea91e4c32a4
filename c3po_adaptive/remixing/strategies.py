"""The four strategies of a remixer, and what follows from them together."""

from __future__ import annotations

from dataclasses import dataclass

from ..kernels.base import Kernel
from ..optimizers.base import PathwayOptimizer
from ..optimizers.none import NoStep
from ..optimizers.oracle import Oracle
from ..retrievers.base import Retriever
from ..selectors.base import LayerSelector


@dataclass(frozen=True)
class Strategies:
    """One strategy for each role of re-mixing."""

    optimizer: PathwayOptimizer
    kernel: Kernel
    retriever: Retriever
    selector: LayerSelector

    @property
    def needs_neighbours(self) -> bool:
        """Whether references are retrieved for each question."""
        learns = self.selector.references_needed > 0 and self.learned_with.needs_neighbours
        return self.optimizer.needs_neighbours or self.selector.needs_neighbours or learns

    @property
    def learned_with(self) -> PathwayOptimizer:
        """What re-mixes references that a selector learns from: the optimizer, and of an oracle the one that it bounds,
        which sees no label, so that both choose alike.
        """
        return self.optimizer.of if isinstance(self.optimizer, Oracle) else self.optimizer

    @property
    def references_needed(self) -> int:
        """How many references the optimizer and the selector learn from, each from its own."""
        return self.optimizer.references_needed + self.selector.references_needed

    @property
    def needs_references(self) -> bool:
        """Whether there have to be any: to be neighbours, or to learn from."""
        return self.needs_neighbours or self.references_needed > 0

    @property
    def needs_label(self) -> bool:
        """Whether the label is looked at: then answers are an upper bound."""
        return self.optimizer.needs_label or self.selector.needs_label

    @property
    def needs_truth(self) -> bool:
        """Whether the truth of a planted fault is looked at: then answers are an upper bound, too."""
        return self.optimizer.needs_truth or self.selector.needs_truth

    @property
    def shows_neighbours(self) -> bool:
        """Whether the retrieved neighbours had a part in the answer: an optimizer may search for its own."""
        return self.selector.needs_neighbours or (
            self.optimizer.needs_neighbours and not self.optimizer.searches_pathways
        )

    @property
    def re_mixes(self) -> bool:
        """Not so the base, which has no use for a selector."""
        return not (isinstance(self.optimizer, NoStep) and self.optimizer.start == "own")
