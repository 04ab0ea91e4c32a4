"""References that are expected to help."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from ..checks import check_number
from ..kernels.base import Array, Lessons, Seen
from ..kernels.transfer import Part, Transfer
from ._exact import ExactIndex
from .base import Hits, Index, Retriever
from .cosine import CosineIndex
from .random import RandomIndex


@dataclass(frozen=True, eq=False)
class TransferIndex(Index):
    """References, placed where products are expected transfer."""

    kernel: Transfer
    placed: CosineIndex

    def search(
        self,
        queries: Array,
        *,
        exclude: Sequence[Collection[int]] | None = None,
        max_similarity: float = 1.0,
        keys: Sequence[int] | None = None,
    ) -> Hits:
        placed = self.kernel.placed(queries)
        return self.placed.search(placed, exclude=exclude, max_similarity=max_similarity, keys=keys)


@dataclass(frozen=True)
class TransferNeighbours(Retriever):
    """The ``k`` references whose predicted gradient points most nearly where the question's does (see the kernel
    ``transfer``); similarity is the cosine of the two. Where nothing can be predicted, ``k`` at random.

    Attributes:
        k: how many.
        rank: of the predictions, at most.
        reads: which parts of what the model knows of a question.
        shuffled: a control: gradients are those of other references.
    """

    k: int = 30
    rank: int = 8
    reads: tuple[Part, ...] = ("state", "pathway", "form")
    shuffled: bool = False
    kernel: Transfer | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "transfer"
    learns: ClassVar[bool] = True

    @property
    def varies(self) -> str:  # type: ignore[override]  # a constant of others
        return "teachers learned from others' gradients" if self.shuffled else ""

    def __post_init__(self) -> None:
        check_number(self, "k", at_least=1, whole=True)
        object.__setattr__(self, "reads", self._kernel().reads)  # checks the rest, too

    def _kernel(self) -> Transfer:
        return self.kernel or Transfer(rank=self.rank, reads=self.reads, shuffled=self.shuffled)

    def learn(self, lessons: Lessons) -> Self:
        return replace(self, kernel=self._kernel().learn(lessons))

    def sees(self, questions: Seen) -> Array:
        return self._kernel().joined(questions.known)

    def fit(self, vectors: Array) -> TransferIndex:
        kernel = self._kernel()
        placed = kernel.placed(vectors)
        if placed.shape[1] > 1:
            return TransferIndex(kernel, ExactIndex.build(placed, self.k))
        return TransferIndex(kernel, RandomIndex(RandomIndex.scaled(placed), self.k, 0))
