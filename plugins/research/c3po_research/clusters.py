"""One neighbourhood a cluster of questions, told by nobody: the retriever ``nearest-cluster``.

What ``integrated-step`` does along a question's nearest references, it does here along the mean of a cluster's: one
change for each cluster, found without kinds. With one cluster it is one change for all; with as many as references, the
nearest reference's own.

Try it: ``c3po demo --arm nearest-cluster``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from c3po_adaptive import CosineIndex, Retriever, hookimpl

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ClusterIndex(CosineIndex):
    """All rows of the cluster whose center is nearest to a query.

    Attributes:
        centers: ``[C, D]``.
        cluster: ``[N]`` of each row.
    """

    centers: Array
    cluster: Array

    def nearest(self, query: Array, banned: list[int], max_similarity: float, key: int | None) -> Any:
        own = np.square(self.centers - query).sum(1).argmin()
        rows, similarity = self.allowed(query, banned, max_similarity)
        mine = self.cluster[rows] == own
        return rows[mine], similarity[mine]


@dataclass(frozen=True)
class NearestCluster(Retriever):
    """Every reference of the question's nearest cluster, by k-means (Lloyd 1982) on embeddings of length one.

    The kernel weighs them; for the cluster's mean take one that is as wide as all: ``{name: gaussian, length_scale:
    1000}``.

    Attributes:
        clusters: how many; no more than there are different references.
        seed: of the first centers.
    """

    clusters: PositiveInt = 25
    seed: NonNegativeInt = 0
    name: ClassVar[str] = "nearest-cluster"

    def fit(self, vectors: Array) -> ClusterIndex:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        scaled = CosineIndex.scaled(vectors)
        count = min(self.clusters, len(np.unique(scaled, axis=0)))
        with threadpool_limits(1):  # sums in parts are rounded otherwise
            found = KMeans(count, n_init=10, random_state=self.seed).fit(scaled)
        largest = int(np.bincount(found.labels_).max())
        return ClusterIndex(scaled, largest, found.cluster_centers_, found.labels_)


@hookimpl
def register_retrievers() -> list[type[Retriever]]:
    return [NearestCluster]
