"""Approximate search for large reference sets with FAISS; small ones are searched exactly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..checks import check_number
from ..kernels.base import Array
from .base import Hits, Index, Retriever
from .exact import ExactIndex
from .vectors import Unit, cosine, excluded_rows, padded, unit

SMALL = 10_000
"""References up to which the exact search is used."""


@dataclass(frozen=True, eq=False)
class ApproximateIndex(Index):
    """The ``k`` most similar of the candidates that an approximate FAISS index proposes, ranked exactly.

    Attributes:
        vectors: ``[N, D]`` of length one. proposer: the FAISS index over them.
    """

    vectors: Unit
    proposer: Any
    k: int

    def search(
        self,
        queries: Array,
        *,
        exclude: Sequence[Collection[int]] | None = None,
        max_similarity: float = 1.0,
        keys: Sequence[int] | None = None,
    ) -> Hits:
        scaled = unit(queries, "queries", self.vectors.shape[1])
        banned = excluded_rows(exclude, max_similarity, len(scaled))
        return padded([self._nearest(*item, max_similarity) for item in zip(scaled, banned, strict=True)], self.k)

    def _nearest(self, query: Unit, banned: list[int], max_similarity: float) -> Any:
        """Rows and similarities: candidates are doubled until k are allowed, or the index proposes no more."""
        wanted, proposed = self.k + len(banned) + 8, -1
        while True:
            index = self.proposer.search(query[None], wanted)[1][0]
            index = index[index >= 0]
            similarity = cosine(self.vectors[index], query)
            allowed = (similarity <= max_similarity) & ~np.isin(index, banned)
            if allowed.sum() >= self.k or len(index) == proposed or wanted >= len(self.vectors):
                return index[allowed], similarity[allowed]
            wanted, proposed = min(2 * wanted, len(self.vectors)), len(index)


@dataclass(frozen=True)
class FaissIVF(Retriever):
    """The ``k`` most similar references in the ``probes`` nearest of √N cells (inverted file); exact below 10,000."""

    k: int = 3
    probes: int = 32
    name: ClassVar[str] = "faiss-ivf"

    def __post_init__(self) -> None:
        check_number(self, "k", at_least=1, whole=True)
        check_number(self, "probes", at_least=1, whole=True)

    def fit(self, vectors: Array) -> Index:
        import faiss

        if len(vectors) <= SMALL:
            return ExactIndex.build(vectors, self.k)
        scaled = unit(vectors, "references")
        cells = int(np.sqrt(len(scaled)))
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(scaled.shape[1]), scaled.shape[1], cells, faiss.METRIC_INNER_PRODUCT
        )
        sample = np.random.default_rng(0).permutation(len(scaled))[: 40 * cells]  # FAISS asks for 39 a cell
        index.train(scaled[np.sort(sample)])
        index.add(scaled)
        index.nprobe = min(self.probes, cells)
        return ApproximateIndex(scaled, index, self.k)


@dataclass(frozen=True)
class FaissHNSW(Retriever):
    """The ``k`` most similar references by a small-world graph (HNSW) of ``links`` a node; exact below 10,000."""

    k: int = 3
    links: int = 32
    effort: int = 64
    name: ClassVar[str] = "faiss-hnsw"

    def __post_init__(self) -> None:
        check_number(self, "k", at_least=1, whole=True)
        check_number(self, "links", at_least=2, whole=True)
        check_number(self, "effort", at_least=1, whole=True)

    def fit(self, vectors: Array) -> Index:
        import faiss

        if len(vectors) <= SMALL:
            return ExactIndex.build(vectors, self.k)
        scaled = unit(vectors, "references")
        index = faiss.IndexHNSWFlat(scaled.shape[1], self.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = self.effort
        index.add(scaled)
        return ApproximateIndex(scaled, index, self.k)
