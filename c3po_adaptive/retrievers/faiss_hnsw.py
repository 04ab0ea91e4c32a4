"""The k nearest by a small-world graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveInt

from ._approximate import Approximate
from ._vectors import Unit


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
