"""The k nearest in some of the cells that references are sorted into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from ._approximate import Approximate
from ._vectors import Unit


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
