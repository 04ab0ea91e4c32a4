"""How much a reference is expected to help a question, learned in place of given: kernel and retriever ``transfer``.

Tried on the carved model (``docs/explanation/results.md``), and found to gain nothing: learned teachers do as well as
near ones (−0.0 points [−1.3, 1.2]), and what is predicted correlates by 0.005 with what one reference teaches another.

Try it: ``c3po demo --arm transfer`` (NGD on its neighbours).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from c3po_adaptive import (
    DataError,
    Hits,
    Index,
    Kernel,
    QuestionFeatures,
    ReferenceFeatures,
    Retriever,
    SettingError,
    ShapeError,
    default_registry,
    hookimpl,
)

Array = NDArray[Any]
Part = Literal["state", "pathway", "form"]
"""The hidden state before the first adapted layer; the model's own pathway; how many choices, and how sure of them."""

FOLDS = 5
SURE = 2.0  # standard errors over folds by which predictions have to correlate
TAUGHT = 4000  # references at most that it is learned from, drawn at random
FEWEST = 20  # references that it can be learned from


@dataclass(frozen=True)
class Transfer(Kernel):
    """By how much what reference i teaches is expected to lower the loss of question j, from what is known of both.

    What a step along reference i's gradient would take off reference j's loss is, to first order, B_ij = ⟨g_i, g_j⟩:
    between references it is known without a pass. Here g is predicted from what the model knows of a question before it
    answers, ĝ(x) = g0 + Q (x − x0) with Q of low rank (partial least squares by the singular vectors of the cross
    covariance), and the kernel is ⟨ĝ(x), ĝ(y)⟩, bilinear and positive semi-definite.

    Its rank, at most ``rank``, is the one whose predictions correlate best with B on pairs of references of which
    neither was learned from, by two standard errors at least; rank 0, the same for all pairs, is what remains where
    nothing can be predicted.

    Attributes:
        rank: of Q, at most.
        reads: which parts of what is known.
        shuffled: a control: gradients are those of other references.
    """

    rank: NonNegativeInt = 8
    reads: Annotated[tuple[Part, ...], Field(min_length=1)] = ("state", "pathway", "form")
    shuffled: bool = False
    learned: Learned | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "transfer"
    learns: ClassVar[bool] = True

    @property
    def varies(self) -> str:  # type: ignore[override]  # a constant of others
        return "weights learned from others' gradients" if self.shuffled else ""

    def __post_init__(self) -> None:
        if isinstance(self.reads, list):  # a list is what YAML gives
            object.__setattr__(self, "reads", tuple(self.reads))
        super().__post_init__()

    def prepare(self, references: ReferenceFeatures) -> Self:
        if not references.known:  # vectors alone, as of pathway space: nothing to learn from
            return self
        x, gradients = self.joined(references.known), references.gradients.reshape(len(references.gradients), -1)
        if len(x) < FEWEST:
            raise SettingError(f"transfer expected {FEWEST} references to learn from, got {len(x)}; give more.")
        drawn = np.random.default_rng(0)
        rows = drawn.permutation(len(x))[:TAUGHT]
        x, gradients = x[rows], gradients[rows]
        if self.shuffled:
            gradients = drawn.permutation(gradients)
        fold = drawn.permutation(len(x)) % FOLDS
        ranks = range(min(self.rank, len(x) - FOLDS, x.shape[1]) + 1)
        scores = np.zeros((FOLDS, len(ranks)))
        for f in range(FOLDS):
            fits = Fits.of(x[fold != f], gradients[fold != f], max(ranks))
            asked, true = x[fold == f], gradients[fold == f] @ gradients[fold == f].T
            for rank in ranks:
                scores[f, rank] = correlation(fits.at(rank)(asked), true)
        mean, error = scores.mean(0), scores.std(0, ddof=1) / FOLDS**0.5
        best = int(mean.argmax())
        best = best if mean[best] > SURE * error[best] else 0
        return replace(self, learned=Fits.of(x, gradients, best).at(best, float(mean[best])))

    def joined(self, known: Mapping[str, Array]) -> Array:
        """``[N, F]`` the parts that it reads, side by side."""
        return np.concatenate([np.asarray(known[part], dtype=np.float64) for part in self.reads], 1)

    def between(self, x: QuestionFeatures, y: QuestionFeatures) -> Array:
        return self(self.joined(x.known), self.joined(y.known))

    def __call__(self, x: Array, y: Array) -> Array:
        found: Array = self.placed(x) @ self.placed(y).T
        return found

    def placed(self, x: Array) -> Array:
        """``[n, 1 + rank]`` where what is known of questions, ``x [n, F]``, places them.

        Raises:
            SettingError: it has not learned yet.
        """
        if self.learned is None:
            raise SettingError("transfer expected references to learn from first; use it through Optimizer or a run.")
        return self.learned(x)


@dataclass(frozen=True, eq=False)
class Learned:
    """A map from what is known to a space in which products are expected transfer.

    Attributes:
        mean: ``[F]`` of what is known.
        scale: ``[F]`` its standard deviation.
        axes: ``[F, r]`` of what is known that tells gradients apart.
        lengths: ``[1 + r, 1 + r]`` a root of the products of gradients: of the constant one, and along each axis.
        held_out: correlation of predicted with true transfer on pairs that were not learned from.
    """

    mean: Array
    scale: Array
    axes: Array
    lengths: Array
    held_out: float = 0.0

    def __call__(self, x: Array) -> Array:
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ShapeError(
                f"Expected what transfer learned from, of shape (n, {len(self.mean)}), got {x.shape}; learn again."
            )
        if not len(x):
            raise DataError("Expected at least one question to place, got none.")
        if not np.isfinite(x).all():
            row = int((~np.isfinite(x)).any(1).argmax())
            raise DataError(f"Expected finite numbers known of each question, got others in row {row}; leave it out.")
        along = ((x - self.mean) / self.scale) @ self.axes
        placed: Array = np.concatenate([np.ones((len(x), 1)), along], 1) @ self.lengths
        return placed


@dataclass(frozen=True, eq=False)
class Fits:
    """Partial least squares of gradients on what is known, for every rank up to some."""

    mean: Array
    scale: Array
    axes: Array
    along: Array
    gradients: Array

    @classmethod
    def of(cls, x: Array, gradients: Array, rank: int) -> Fits:
        mean, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
        scaled = (x - mean) / scale
        if rank == 0:
            axes = np.zeros((x.shape[1], 0))
        else:
            axes = np.linalg.svd(scaled.T @ (gradients - gradients.mean(0)), full_matrices=False)[0][:, :rank]
        return cls(mean, scale, axes, scaled @ axes, gradients)

    def at(self, rank: int, held_out: float = 0.0) -> Learned:
        """The map of so many axes."""
        known = np.concatenate([np.ones((len(self.along), 1)), self.along[:, :rank]], 1)
        each = np.linalg.lstsq(known, self.gradients, rcond=None)[0]
        values, vectors = np.linalg.eigh(each @ each.T)
        lengths = vectors * np.sqrt(values.clip(0))
        return Learned(self.mean, self.scale, self.axes[:, :rank], lengths, held_out)


def correlation(placed: Array, true: Array) -> float:
    """Pearson's, of predicted with ``true`` transfer ``[n, n]``, over pairs of different questions; 0 if constant."""
    pairs = ~np.eye(len(true), dtype=bool)
    predicted = (placed @ placed.T)[pairs]
    if predicted.std() < 1e-12:
        return 0.0
    return float(np.corrcoef(predicted, true[pairs])[0, 1])


@dataclass(frozen=True, eq=False)
class TransferIndex(Index):
    """References, placed where products are expected transfer."""

    kernel: Transfer
    placed: Index

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

    k: PositiveInt = 30
    rank: NonNegativeInt = 8
    reads: Annotated[tuple[Part, ...], Field(min_length=1)] = ("state", "pathway", "form")
    shuffled: bool = False
    kernel: Transfer | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "transfer"
    learns: ClassVar[bool] = True

    @property
    def varies(self) -> str:  # type: ignore[override]  # a constant of others
        return "teachers learned from others' gradients" if self.shuffled else ""

    def __post_init__(self) -> None:
        if isinstance(self.reads, list):
            object.__setattr__(self, "reads", tuple(self.reads))
        super().__post_init__()

    def _kernel(self) -> Transfer:
        return self.kernel or Transfer(rank=self.rank, reads=self.reads, shuffled=self.shuffled)

    def prepare(self, references: ReferenceFeatures) -> Self:
        return replace(self, kernel=self._kernel().prepare(references))

    def sees(self, questions: QuestionFeatures) -> Array:
        return self._kernel().joined(questions.known)

    def fit(self, vectors: Array) -> TransferIndex:
        kernel = self._kernel()
        placed = kernel.placed(vectors)
        name = "faiss-knn" if placed.shape[1] > 1 else "random"
        found: Retriever = default_registry().create("retriever", {"name": name, "k": self.k})
        return TransferIndex(kernel, found.fit(placed))


@hookimpl
def register_kernels() -> list[type[Kernel]]:
    return [Transfer]


@hookimpl
def register_retrievers() -> list[type[Retriever]]:
    return [TransferNeighbours]
