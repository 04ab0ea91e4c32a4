"""The contract of retrievers."""

from __future__ import annotations

import numpy as np
import pytest

from ..errors import DataError, SettingError, ShapeError
from ..kernels.base import Array
from ..retrievers.base import Hits, Retriever
from .contract import Contract, check_identity


class RetrieverContract(Contract):
    """Supply a fixture ``retriever``."""

    @pytest.fixture
    def references(self) -> Array:
        """``[40, 4]`` of any length, so close together that each has neighbours; the last ten are duplicates."""
        rows = np.random.default_rng(0).normal(loc=0.7, size=(40, 4))
        rows[30:] = 2 * rows[:10]
        return rows

    @pytest.fixture
    def queries(self, references: Array) -> Array:
        """``[9, 4]``, the first four of them references."""
        return np.concatenate([references[:4], np.random.default_rng(1).normal(loc=0.7, size=(5, 4))])

    def test_identity(self, retriever: Retriever) -> None:
        check_identity("retriever", retriever)

    def test_hits_are_real_sorted_and_unique(self, retriever: Retriever, references: Array, queries: Array) -> None:
        hits = retriever.fit(references).search(queries)
        _assert_hits(hits, references, queries)
        assert (hits.index >= 0).any(), "the toy's queries have neighbours"

    def test_excluded_are_never_returned(self, retriever: Retriever, references: Array, queries: Array) -> None:
        index = retriever.fit(references)
        first = index.search(queries)
        exclude = [{int(i) for i in row if i >= 0} for row in first.index]
        second = index.search(queries, exclude=exclude)
        _assert_hits(second, references, queries)
        assert all(not exclude[b].intersection(row.tolist()) for b, row in enumerate(second.index))
        nothing = index.search(queries, exclude=[range(len(references))] * len(queries))
        assert (nothing.index == -1).all()
        assert (nothing.similarity == 0).all()

    @pytest.mark.parametrize("most", [0.95, 0.6, -1.0])
    def test_no_more_similar_than_allowed(
        self, retriever: Retriever, references: Array, queries: Array, most: float
    ) -> None:
        hits = retriever.fit(references).search(queries, max_similarity=most)
        _assert_hits(hits, references, queries)
        assert (hits.similarity[hits.index >= 0] <= most).all()

    def test_identical_is_allowed_by_default(self, retriever: Retriever, references: Array) -> None:
        hits = retriever.fit(references[:1]).search(references[:1])
        assert hits.index[0, 0] == 0
        assert hits.similarity[0, 0] == pytest.approx(1)

    def test_deterministic(self, retriever: Retriever, references: Array, queries: Array) -> None:
        index = retriever.fit(references)
        hits = index.search(queries, max_similarity=0.99)
        for again in (index, retriever.fit(references)):
            _assert_equal(hits, again.search(queries, max_similarity=0.99))

    def test_batch_equals_one_by_one(self, retriever: Retriever, references: Array, queries: Array) -> None:
        index = retriever.fit(references)
        exclude = [{b, b + 30} for b in range(len(queries))]
        hits = index.search(queries, exclude=exclude, max_similarity=0.97)
        for b in range(len(queries)):
            one = index.search(queries[b : b + 1], exclude=exclude[b : b + 1], max_similarity=0.97)
            found = hits.index[b] >= 0
            assert np.array_equal(hits.index[b][found], one.index[0][one.index[0] >= 0])
            assert np.array_equal(hits.similarity[b][found], one.similarity[0][one.index[0] >= 0])

    def test_fewer_references_than_asked_for(self, retriever: Retriever, references: Array, queries: Array) -> None:
        hits = retriever.fit(references[:2]).search(queries, exclude=[{1}] * len(queries))
        _assert_hits(hits, references[:2], queries)
        assert ((hits.index >= 0).sum(1) <= 1).all()

    def test_inputs_untouched(self, retriever: Retriever, references: Array, queries: Array) -> None:
        before, asked = references.copy(), queries.copy()
        exclude: list[set[int]] = [{0}] * len(queries)
        index = retriever.fit(references)
        hits = index.search(queries, exclude=exclude)
        assert np.array_equal(references, before)
        assert np.array_equal(queries, asked)
        assert exclude == [{0}] * len(queries)
        references[:] = -1  # the caller's array may change: the index has its own
        _assert_equal(hits, index.search(queries, exclude=exclude))

    def test_refuses_bad_vectors(self, retriever: Retriever, references: Array, queries: Array) -> None:
        index = retriever.fit(references)
        for row, error in ((0.0, DataError), (np.nan, DataError), (np.inf, DataError)):
            for vectors, use in ((references.copy(), retriever.fit), (queries.copy(), index.search)):
                vectors[3] = row
                with pytest.raises(error, match="row 3"):
                    use(vectors)
        with pytest.raises(DataError, match="at least one"):
            retriever.fit(references[:0])
        for bad in (references[0], references[None]):
            with pytest.raises(ShapeError, match="shape"):
                retriever.fit(bad)
        with pytest.raises(ShapeError, match=r"\(n, 4\).*\(9, 3\)"):
            index.search(queries[:, :3])

    def test_refuses_bad_filters(self, retriever: Retriever, references: Array, queries: Array) -> None:
        index = retriever.fit(references)
        with pytest.raises(ShapeError, match="exclude"):
            index.search(queries, exclude=[{0}])
        for bad in (1.5, np.nan):
            with pytest.raises(SettingError, match="max_similarity"):
                index.search(queries, max_similarity=bad)


def _assert_hits(hits: Hits, references: Array, queries: Array) -> None:
    """Right shape and types; each row's neighbours in range, once, nearest first, with their cosine; padding last."""
    assert hits.index.shape == hits.similarity.shape
    assert len(hits.index) == len(queries)
    assert hits.index.dtype == np.int64
    assert np.issubdtype(hits.similarity.dtype, np.floating)
    x, q = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (references, queries))
    for b, row in enumerate(hits.index):
        found = row[row >= 0]
        assert (row[len(found) :] == -1).all(), "padding comes last"
        assert (hits.similarity[b, len(found) :] == 0).all(), "padding has no similarity"
        assert (found < len(references)).all()
        assert len(set(found.tolist())) == len(found)
        assert (np.diff(hits.similarity[b, : len(found)]) <= 0).all(), "nearest first"
        np.testing.assert_allclose(hits.similarity[b, : len(found)], x[found] @ q[b], atol=1e-5)


def _assert_equal(one: Hits, other: Hits) -> None:
    assert np.array_equal(one.index, other.index)
    assert np.array_equal(one.similarity, other.similarity)
