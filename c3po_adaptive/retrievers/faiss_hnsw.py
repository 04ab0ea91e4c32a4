"""The k nearest by a small-world graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..checks import check_number
from ._approximate import Approximate
from ._vectors import Unit


@dataclass(frozen=True)
class FaissHNSW(Approximate):
    """The ``k`` most similar references by a small-world graph (HNSW) of ``links`` per node; exact below 10,000."""

    links: int = 32
    effort: int = 64
    name: ClassVar[str] = "faiss-hnsw"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "links", at_least=2, whole=True)
        check_number(self, "effort", at_least=1, whole=True)

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
