"""Approximate search for large reference sets with FAISS; small ones are searched exactly.

Indexes that are kept in a folder are named by what they were built from and what they hold. Read back, the cells of an
inverted file stay on the disk, memory-mapped; a graph is read into memory.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from c3po_adaptive import CosineIndex, Form, Index, Retriever, cosine, default_registry, kept

Array = NDArray[Any]
Unit = NDArray[np.float32]

RECIPE = 1
"""How indexes are built. Those on the disk of another number are built anew."""

FAISS = ".faiss"
SMALL = 10_000
"""References up to which the exact search is used."""


@dataclass(frozen=True, eq=False)
class ApproximateIndex(CosineIndex):
    """The ``k`` most similar of the candidates that an approximate FAISS index proposes, ranked exactly.

    Attributes:
        proposer: the FAISS index over the vectors.
    """

    proposer: Any

    def nearest(self, query: Unit, banned: list[int], max_similarity: float, key: int | None) -> Any:
        """Candidates are doubled until k are allowed, or the index proposes no more."""
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
class Approximate(Retriever):
    """The ``k`` most similar references, nearly always; exactly up to 10,000."""

    k: PositiveInt = 3

    def fit(self, vectors: Array) -> Index:
        if len(vectors) <= SMALL:
            return self._exact(vectors)
        scaled = CosineIndex.scaled(vectors)
        return ApproximateIndex(scaled, self.k, self.tuned(self.built(scaled)))

    def fit_kept(self, vectors: Array, folder: Path) -> Index:
        """The same, kept in a folder; only in memory, with a warning, where that cannot be written.

        Raises:
            DataError: the file in the folder is cut short or altered.
        """
        import faiss

        if len(vectors) <= SMALL:
            return self._exact(vectors)
        scaled = CosineIndex.scaled(vectors)
        identity = [RECIPE, self.shape, faiss.__version__, sha256(scaled.data).hexdigest()]
        form = Form(FAISS, _write, lambda path: faiss.read_index(str(path), faiss.IO_FLAG_MMAP))
        index = kept(folder, identity, lambda: self.built(scaled), form, of=f"{self.name}-")
        return ApproximateIndex(scaled, self.k, self.tuned(index))

    def _exact(self, vectors: Array) -> Index:
        exact: Retriever = default_registry().create("retriever", {"name": "faiss-knn", "k": self.k})
        return exact.fit(vectors)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The settings that an index is built with."""

    @abstractmethod
    def built(self, scaled: Unit) -> Any:
        """A FAISS index over ``[N, D]``."""

    @abstractmethod
    def tuned(self, index: Any) -> Any:
        """The index, told how much to search."""


@dataclass(frozen=True)
class FaissHNSW(Approximate):
    """The ``k`` most similar references by a small-world graph (HNSW) of ``links`` per node; exact below 10,000."""

    links: Annotated[int, Field(ge=2)] = 32
    effort: PositiveInt = 64
    name: ClassVar[str] = "faiss-hnsw"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.links,)

    def built(self, scaled: Unit) -> Any:
        import faiss

        index = faiss.IndexHNSWFlat(scaled.shape[1], self.links, faiss.METRIC_INNER_PRODUCT)
        index.add(scaled)
        return index

    def tuned(self, index: Any) -> Any:
        index.hnsw.efSearch = self.effort
        return index


@dataclass(frozen=True)
class FaissIVF(Approximate):
    """The ``k`` most similar references in the ``probes`` nearest of √N cells (inverted file); exact below 10,000."""

    probes: PositiveInt = 8
    name: ClassVar[str] = "faiss-ivf"

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def built(self, scaled: Unit) -> Any:
        import faiss

        cells = int(np.sqrt(len(scaled)))
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(scaled.shape[1]), scaled.shape[1], cells, faiss.METRIC_INNER_PRODUCT
        )
        sample = np.random.default_rng(0).permutation(len(scaled))[: 40 * cells]  # FAISS asks for 39 per cell
        index.train(scaled[np.sort(sample)])
        index.add(scaled)
        return index

    def tuned(self, index: Any) -> Any:
        index.nprobe = min(self.probes, index.nlist)
        return index


def _write(index: Any, path: Path) -> None:
    import faiss

    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # what FAISS makes of a full disk
        raise OSError(str(error)) from error
