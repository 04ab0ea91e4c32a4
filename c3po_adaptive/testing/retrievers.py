"""The contract of retrievers."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..errors import DataError, SettingError, ShapeError
from ..kernels.base import Array, QuestionFeatures
from ..retrievers.base import Hits, Index, Retriever
from .contract import Contract, check_identity, expect, refused
from .toy import toy_parts


class RetrieverContract(Contract):
    """Supply a fixture ``retriever``. It is run on 40 references and 9 queries, four of which are references."""

    role: ClassVar[str] = "retriever"

    def vectors(self) -> tuple[Array, Array]:
        """References ``[40, 4]`` of any length, so close together that each has neighbours, the last ten duplicates;
        queries ``[9, 4]``, the first four of them references.
        """
        rows = np.random.default_rng(0).normal(loc=0.7, size=(40, 4))
        rows[30:] = 2 * rows[:10]
        return rows, np.concatenate([rows[:4], np.random.default_rng(1).normal(loc=0.7, size=(5, 4))])

    def seen(self, retriever: Retriever) -> tuple[Array, Array]:
        """Both as the retriever sees them: of one that learns, the parts that it reads."""
        references, queries = (retriever.sees(QuestionFeatures(rows, toy_parts(rows))) for rows in self.vectors())
        return references, queries

    def test_identity(self, retriever: Retriever) -> None:
        """Name and parameters identify a run.

        Make it a frozen dataclass with ``name: ClassVar[str]`` in kebab case, and parameters that JSON can hold.
        """
        check_identity("retriever", retriever)

    def test_hits_are_real_sorted_and_unique(self, retriever: Retriever) -> None:
        """Hits are rows of the references, each once, nearest first, with their cosine; padding (-1, 0) comes last.

        Sort by similarity, descending; fill short rows up with index -1 and similarity 0.
        """
        references, queries = self.seen(retriever)
        index = retriever.fit(references)
        expect(isinstance(index, Index), "an Index from fit", type(index).__name__)
        hits = index.search(queries)
        _check_hits(hits, references, queries, retriever)
        expect((hits.index >= 0).any(), "a neighbour of some query, all of which have near ones", "none")

    def test_excluded_are_never_returned(self, retriever: Retriever) -> None:
        """``exclude`` holds for each query, also if that leaves none.

        Look for more than k, and drop what is excluded, rather than dropping from the k.
        """
        references, queries = self.seen(retriever)
        index = retriever.fit(references)
        first = index.search(queries)
        exclude = [{int(i) for i in row if i >= 0} for row in first.index]
        second = index.search(queries, exclude=exclude)
        _check_hits(second, references, queries, retriever)
        for b, row in enumerate(second.index):
            expect(not exclude[b].intersection(row.tolist()), f"no excluded row for query {b}", row.tolist())
        nothing = index.search(queries, exclude=[range(len(references))] * len(queries))
        expect((nothing.index == -1).all(), "no row where all are excluded", "some")
        expect((nothing.similarity == 0).all(), "similarity 0 where there is no row", "others")

    def test_no_more_similar_than_allowed(self, retriever: Retriever) -> None:
        """No hit has a cosine above ``max_similarity``: near-duplicates of a test question give it away.

        Filter by the exact cosine before the k are taken.
        """
        references, queries = self.seen(retriever)
        for most in (0.95, 0.6, -1.0):
            hits = retriever.fit(references).search(queries, max_similarity=most)
            _check_hits(hits, references, queries, retriever)
            found = hits.similarity[hits.index >= 0]
            expect((found <= most).all(), f"similarities of at most {most}", found.max(initial=-1))

    def test_identical_is_allowed_by_default(self, retriever: Retriever) -> None:
        """A reference is its own nearest neighbour, with cosine 1, as long as nothing is excluded.

        Mind rounding: 1.0000001 is not above ``max_similarity=1``.
        """
        references = self.seen(retriever)[0][:1]
        hits = retriever.fit(references).search(references)
        expect(hits.index.shape[1] and hits.index[0, 0] == 0, "row 0 for its own vector", hits.index.tolist())
        expect(abs(hits.similarity[0, 0] - 1) < 1e-6, "a cosine of 1", hits.similarity[0, 0])

    def test_deterministic(self, retriever: Retriever) -> None:
        """The same search gives the same hits, from an index that is made anew, too.

        Seed what is drawn: by a parameter, and by ``keys``, a number for each query.
        """
        references, queries = self.seen(retriever)
        index = retriever.fit(references)
        hits = index.search(queries, max_similarity=0.99)
        for again in (index, retriever.fit(references)):
            _expect_equal(hits, again.search(queries, max_similarity=0.99), "the same hits again")

    def test_batch_equals_one_by_one(self, retriever: Retriever) -> None:
        """A query's hits do not depend on the other queries.

        Draw by ``keys[b]``, not in the order of the queries.
        """
        references, queries = self.seen(retriever)
        index = retriever.fit(references)
        exclude = [{b, b + 30} for b in range(len(queries))]
        hits = index.search(queries, exclude=exclude, max_similarity=0.97)
        for b in range(len(queries)):
            one = index.search(queries[b : b + 1], exclude=exclude[b : b + 1], max_similarity=0.97)
            _expect_equal(_real(hits, b), _real(one, 0), f"query {b} alone as among others")

    def test_fewer_references_than_asked_for(self, retriever: Retriever) -> None:
        """Where there are fewer than k, these are all.

        Pad with -1, or return fewer columns.
        """
        references, queries = self.seen(retriever)
        hits = retriever.fit(references[:2]).search(queries, exclude=[{1}] * len(queries))
        _check_hits(hits, references[:2], queries, retriever)
        expect(((hits.index >= 0).sum(1) <= 1).all(), "the one row that is left at most", "more")

    def test_inputs_untouched(self, retriever: Retriever) -> None:
        """Vectors and ``exclude`` are read, never written; the index keeps vectors of its own.

        Copy in ``fit``: the caller's array may change afterwards.
        """
        references, queries = self.seen(retriever)
        before, asked = references.copy(), queries.copy()
        exclude: list[set[int]] = [{0}] * len(queries)
        index = retriever.fit(references)
        hits = index.search(queries, exclude=exclude)
        expect(np.array_equal(references, before), "the references as they were", "others")
        expect(np.array_equal(queries, asked), "the queries as they were", "others")
        expect(exclude == [{0}] * len(queries), "exclude as it was", exclude)
        references[:] = -1
        again = index.search(queries, exclude=exclude)
        _expect_equal(hits, again, "the same hits after the caller's array changed")

    def test_refuses_bad_vectors(self, retriever: Retriever) -> None:
        """Zero, NaN and infinite vectors are refused with a ``DataError`` that names the row; other shapes with a
        ``ShapeError``; no references at all with a ``DataError``.

        Say ``row 3`` and ``shape (n, 4)``, got ``(9, 3)``; "at least one" for none.
        """
        references, queries = self.seen(retriever)
        index = retriever.fit(references)
        for row in (np.nan, np.inf) if retriever.learns else (0.0, np.nan, np.inf):
            for vectors, use in ((references.copy(), retriever.fit), (queries.copy(), index.search)):
                vectors[3] = row
                with refused(DataError, "row 3", f"a vector of {row}"):
                    use(vectors)
        with refused(DataError, "at least one", "an empty set"):
            retriever.fit(references[:0])
        for bad in (references[0], references[None]):
            with refused(ShapeError, "shape", f"an array of {bad.ndim} dimensions"):
                retriever.fit(bad)
        width = queries.shape[1]
        with refused(ShapeError, rf"\(n, {width}\).*\(9, {width - 1}\)", f"queries of {width - 1} dimensions"):
            index.search(queries[:, :-1])

    def test_refuses_bad_filters(self, retriever: Retriever) -> None:
        """``exclude`` for another number of queries is refused with a ``ShapeError``, a ``max_similarity`` above 1 or
        NaN with a ``SettingError``; both are named.

        Check them before the search.
        """
        references, queries = self.seen(retriever)
        index = retriever.fit(references)
        with refused(ShapeError, "exclude", "exclude for one query of nine"):
            index.search(queries, exclude=[{0}])
        for bad in (1.5, np.nan):
            with refused(SettingError, "max_similarity", f"a max_similarity of {bad}"):
                index.search(queries, max_similarity=bad)


def _check_hits(hits: Hits, references: Array, queries: Array, retriever: Retriever) -> None:
    """Right shape and types; each row's neighbours in range, once, nearest first, with their cosine (in a space of
    its own if it learns); padding last.
    """
    shape = hits.index.shape
    expect(shape == hits.similarity.shape, "index and similarity of one shape", f"{shape}, {hits.similarity.shape}")
    expect(len(hits.index) == len(queries), f"a row for each of {len(queries)} queries", len(hits.index))
    expect(hits.index.dtype == np.int64, "an index of dtype int64", hits.index.dtype)
    expect(np.issubdtype(hits.similarity.dtype, np.floating), "similarities that are real", hits.similarity.dtype)
    x, q = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (references, queries))
    for b, row in enumerate(hits.index):
        found = row[row >= 0]
        similarity = hits.similarity[b, : len(found)]
        expect((row[len(found) :] == -1).all(), f"padding of query {b} to come last", row.tolist())
        expect((hits.similarity[b, len(found) :] == 0).all(), f"padding of query {b} to have similarity 0", "another")
        expect((found < len(references)).all(), f"rows below {len(references)}", found.tolist())
        expect(len(set(found.tolist())) == len(found), f"each row once for query {b}", found.tolist())
        expect((np.diff(similarity) <= 0).all(), f"the nearest of query {b} first", similarity.tolist())
        cosine = x[found] @ q[b]
        if not retriever.learns:
            expect(np.allclose(similarity, cosine, atol=1e-5), f"the cosines {cosine.tolist()}", similarity.tolist())


def _real(hits: Hits, b: int) -> Hits:
    """The hits of one query, without padding."""
    found = hits.index[b] >= 0
    return Hits(hits.index[b : b + 1, found], hits.similarity[b : b + 1, found])


def _expect_equal(one: Hits, other: Hits, what: str) -> None:
    same = np.array_equal(one.index, other.index) and np.array_equal(one.similarity, other.similarity)
    expect(same, what, "others")
