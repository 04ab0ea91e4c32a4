"""How long one search for neighbours takes in a large reference set, and how many it finds of the right ones."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.registry import Registry
from c3po_adaptive.retrievers._faiss_index import ExactIndex
from c3po_adaptive.tasks.formats import description
from c3po_adaptive.tasks.question_files import demo_questions

from .config import Search
from .rows import TimedSearch

K = 3
BLOCK = 65536
Vectors = NDArray[np.float32]


def timed_search(name: str, search: Search, registry: Registry) -> TimedSearch:
    """Queries one by one, and the same by an exact search."""
    retriever = registry.create("retriever", search.retriever)
    texts = [description(q) for split in ("references", "validation", "test") for q in demo_questions(split)]
    real = default_embedder().encode(texts)
    vectors = _moved(real, search.references, search.nearness, seed=0)
    queries = _moved(real, search.queries, search.nearness, seed=1)
    began = time.perf_counter()
    index = retriever.fit(vectors)
    built = time.perf_counter() - began
    exact = ExactIndex.build(vectors, K)
    right, plain = _timed(exact, queries)
    found, quick = _timed(index, queries)
    hits = [len({*a} & {*b}) / K for a, b in zip(found, right, strict=True)]
    return TimedSearch(
        search=name,
        retriever=registry.describe(retriever),
        references=search.references,
        dimensions=vectors.shape[1],
        milliseconds=round(1e3 * statistics.median(quick), 3),
        exact_milliseconds=round(1e3 * statistics.median(plain), 3),
        recall=round(statistics.mean(hits), 4),
        build_seconds=round(built, 1),
        n=search.queries,
    )


def _moved(real: Vectors, n: int, nearness: float, seed: int) -> Vectors:
    """``[n, D]`` of length one: drawn from ``real``, and noise of the length that gives the wanted cosine."""
    draw = np.random.default_rng(seed)
    spread = np.float32(np.sqrt((1 / nearness**2 - 1) / real.shape[1]))
    found = np.empty((n, real.shape[1]), np.float32)
    for i in range(0, n, BLOCK):
        rows = real[draw.integers(len(real), size=min(BLOCK, n - i))]
        rows = rows + spread * draw.standard_normal(rows.shape, dtype=np.float32)
        found[i : i + BLOCK] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def _timed(index: Any, queries: Vectors) -> tuple[list[list[int]], list[float]]:
    """The rows that each query finds, and its seconds; one query first that does not count."""
    index.search(queries[:1])
    found, seconds = [], []
    for query in queries:
        began = time.perf_counter()
        hits = index.search(query[None])
        seconds.append(time.perf_counter() - began)
        found.append(hits.index[0, :K].tolist())
    return found, seconds
