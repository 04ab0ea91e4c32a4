"""The neighbourhood of a question: which references are near, and how much each counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import PluginError
from ..kernels.base import Kernel, QuestionFeatures, ReferenceFeatures
from ..references.reference_set import ReferenceSet
from ..retrievers.base import Index, Retriever
from ..settings import RemixSettings
from ..types import Neighbours, Question, draw_key
from .strategies import Strategies
from .strategy_results import blamed, check_hits, check_shares, check_values


class Found(NamedTuple):
    """Neighbours with kernel weights, and of each sample the reference rows that it must not see in pathway space,
    either; None where nobody looks there.
    """

    neighbours: Neighbours
    excluded: tuple[frozenset[int], ...] | None


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Finds and weighs neighbours.

    Attributes:
        candidates: the references that may be neighbours.
        seen: what retriever and kernel may see of them.
        retriever: prepared.
        kernel: prepared, settled on the candidates.
        index: the retriever fitted to them.
        settings: of the run.
        in_pathway_space: whether the optimizer searches there, too.
    """

    candidates: ReferenceSet
    seen: QuestionFeatures
    retriever: Retriever
    kernel: Kernel
    index: Index
    settings: RemixSettings
    in_pathway_space: bool

    @classmethod
    def open(
        cls,
        candidates: ReferenceSet,
        seen: QuestionFeatures,
        references: ReferenceFeatures,
        strategies: Strategies,
        settings: RemixSettings,
    ) -> Neighbourhood:
        """Prepare retriever and kernel on references, and fit the retriever to what is seen of the candidates."""
        with blamed("kernel", strategies.kernel, "prepare"):
            kernel = strategies.kernel.prepare(references.seen_by(strategies.kernel))
        with blamed("retriever", strategies.retriever, "prepare"):
            retriever = strategies.retriever.prepare(references.seen_by(strategies.retriever))
        with blamed("retriever", retriever, "fit"):
            index = retriever.fit(retriever.sees(seen)) if retriever.learns else candidates.index(retriever)
            if not isinstance(index, Index):
                raise PluginError(
                    f"Expected retriever {retriever.name!r} to give an Index, got {type(index).__name__}; "
                    "return one from fit."
                )
        searched = strategies.optimizer.searches_pathways
        return cls(candidates, seen, retriever, kernel, index, settings, searched)

    @property
    def learns(self) -> bool:
        """Whether more than embeddings is looked at."""
        return self.retriever.learns or self.kernel.learns

    def of(
        self, seen: QuestionFeatures, texts: Sequence[str], questions: Sequence[Question] | None, unseen: frozenset[str]
    ) -> Found:
        """The neighbours of questions.

        Args:
            seen: what may be seen of them.
            texts: that they were embedded by.
            questions: to leave each, and what repeats it, out of its neighbours; None: none is a reference.
            unseen: ids of references that must be nobody's neighbour.
        """
        same = self.candidates.same
        away = {same.row_of[id_] for id_ in unseen & same.row_of.keys()}
        itself = [away | same.rows(q) for q in questions or ()] or [away for _ in texts]
        limit, similar = self.settings.max_similarity, None
        if self.in_pathway_space or self.retriever.learns:  # among a million it would take longer than the rest
            close = (seen.text @ self.seen.text.T).clip(-1, 1) > limit
            similar = [frozenset(np.flatnonzero(s).tolist()) | frozenset(i) for s, i in zip(close, itself, strict=True)]
        with blamed("retriever", self.retriever, "search"):
            keys = [draw_key(self.settings.seed, text) for text in texts]
            if self.retriever.learns and similar is not None:  # near in another space: near texts are left out by name
                hits = self.index.search(self.retriever.sees(seen), exclude=similar, keys=keys)
            else:
                hits = self.index.search(seen.text, exclude=itself, max_similarity=limit, keys=keys)
            check_hits(hits, len(texts), len(self.candidates), self.retriever)
        weights = np.zeros(hits.index.shape)
        for b, row in enumerate(hits.index):
            near = row[row >= 0]
            if len(near):
                with blamed("kernel", self.kernel, "__call__"):
                    values = self.kernel.between(_rows(seen, slice(b, b + 1)), _rows(self.seen, near))
                    check_values(values, len(near), self.kernel)
                with blamed("kernel", self.kernel, "shares"):
                    shares = self.kernel.shares(values[0].clip(0))
                    check_shares(shares, len(near), self.kernel)
                weights[b, : len(near)] = shares
        index = torch.from_numpy(hits.index.astype(np.int64))
        similarity = torch.from_numpy(hits.similarity).float()
        excluded = tuple(similar) if self.in_pathway_space and similar is not None else None
        return Found(Neighbours(index, similarity, torch.from_numpy(weights).float()), excluded)


def _rows(seen: QuestionFeatures, rows: slice | NDArray[np.int64]) -> QuestionFeatures:
    """Some of the questions."""
    return QuestionFeatures(seen.text[rows], {part: values[rows] for part, values in seen.known.items()})
