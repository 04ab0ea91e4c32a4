"""Retrievers: the contract, and searches against brute force and against FAISS's own flat index."""

from itertools import pairwise

import faiss
import numpy as np
import pytest

from c3po_adaptive.errors import SettingError
from c3po_adaptive.retrievers import FaissKNN, FaissRadius, RandomNeighbours, Retriever
from c3po_adaptive.testing import RetrieverContract

RETRIEVERS = [
    FaissKNN(),
    FaissKNN(k=50),
    FaissRadius(),
    FaissRadius(epsilon=0.1, limit=2),
    RandomNeighbours(),
    RandomNeighbours(k=50, seed=1),
]


class TestRetrievers(RetrieverContract):
    @pytest.fixture(params=RETRIEVERS, ids=repr)
    def retriever(self, request: pytest.FixtureRequest) -> Retriever:
        return request.param


def vectors(n, seed, dimension=16):
    return np.random.default_rng(seed).normal(size=(n, dimension))


def brute_force(references, queries, exclude, most, k, epsilon=2.0):
    """Rows by similarity, then row, of what is allowed."""
    x, q = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (references, queries))
    found = []
    for b, similarity in enumerate((q @ x.T).clip(-1, 1)):
        allowed = [i for i in range(len(x)) if i not in exclude[b] and 1 - epsilon <= similarity[i] <= most]
        found.append(sorted(allowed, key=lambda i: (-similarity[i].round(6), i))[:k])
    return found


@pytest.mark.parametrize("most", [1.0, 0.4])
@pytest.mark.parametrize(
    ("retriever", "k", "epsilon"),
    [(FaissKNN(k=5), 5, 2.0), (FaissKNN(k=600), 600, 2.0), (FaissRadius(epsilon=0.6, limit=40), 40, 0.6)],
    ids=repr,
)
def test_search_equals_brute_force(retriever, k, epsilon, most):
    references, queries = vectors(500, 0), vectors(30, 1)
    references[400:450] = 3 * references[:50]  # duplicates: the lower row comes first
    exclude = [set(range(b, 500, 7)) for b in range(30)]
    hits = retriever.fit(references).search(queries, exclude=exclude, max_similarity=most)
    expected = brute_force(references, queries, exclude, most, k, epsilon)
    assert [[i for i in row if i >= 0] for row in hits.index.tolist()] == expected
    assert hits.index.shape == (30, k)


def test_search_equals_faiss():
    references, queries = clustered(2000, 0).astype(np.float32), clustered(20, 1).astype(np.float32)
    faiss.normalize_L2(references)
    faiss.normalize_L2(queries)
    flat = faiss.IndexFlatIP(references.shape[1])
    flat.add(references)
    similarity, index = flat.search(queries, 50)
    hits = FaissKNN(k=50).fit(references).search(queries)
    assert np.array_equal(hits.index, index)
    np.testing.assert_allclose(hits.similarity, similarity, atol=1e-6)
    ends, _, within = flat.range_search(queries, 0.7)
    hits = FaissRadius(epsilon=0.3, limit=2000).fit(references).search(queries)
    assert [set(row) - {-1} for row in hits.index.tolist()] == [set(within[a:b].tolist()) for a, b in pairwise(ends)]


def test_many_duplicates_do_not_hide_the_lower_row():
    references = np.tile(vectors(1, 0), (100, 1))
    hits = FaissKNN(k=3).fit(references).search(references[:2], exclude=[{0, 2}, ()])
    assert hits.index.tolist() == [[1, 3, 4], [0, 1, 2]]
    nothing = FaissKNN(k=3).fit(references).search(references[:2], max_similarity=0.95)
    assert (nothing.index == -1).all()


def test_search_goes_on_past_what_is_left_out():
    """A query with more near-duplicates than neighbours asked for still gets its k neighbours."""
    references = np.concatenate([np.tile(vectors(1, 0), (60, 1)), vectors(20, 1)])
    hits = FaissKNN(k=3).fit(references).search(references[:1], max_similarity=0.95)
    assert (hits.index[0] >= 60).all()
    assert hits.index[0].tolist() == brute_force(references, references[:1], [()], 0.95, 3)[0]


def test_radius_is_a_cosine_distance():
    angles = np.deg2rad([0, 30, 59, 61, 90, 180])
    references = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    query = np.array([[5.0, 0.0]])
    assert FaissRadius(epsilon=0.5).fit(references).search(query).index[0, :4].tolist() == [0, 1, 2, -1]
    assert FaissRadius(epsilon=0.5, limit=2).fit(references).search(query).index.tolist() == [[0, 1]]
    assert FaissRadius(epsilon=0.0).fit(references).search(query).index[0, :2].tolist() == [0, -1]
    assert FaissRadius(epsilon=2.0).fit(references).search(query).index[0, :7].tolist() == [0, 1, 2, 3, 4, 5, -1]


def test_random_is_uniform_and_settled_by_seed_and_query():
    references, queries = vectors(10, 0), vectors(3000, 1)
    index = RandomNeighbours(k=2, seed=3).fit(references)
    drawn = index.search(queries).index
    share = np.bincount(drawn.ravel(), minlength=10) / len(queries)
    np.testing.assert_allclose(share, 0.2, atol=0.03)
    assert np.array_equal(index.search(queries[::-1]).index[::-1], drawn)
    assert not np.array_equal(RandomNeighbours(k=2, seed=4).fit(references).search(queries).index, drawn)


def test_a_key_settles_a_draw_whatever_the_query():
    """The last bits of an embedding differ with the batch it was computed in."""
    references, queries = vectors(50, 0), vectors(20, 1)
    index, keys = RandomNeighbours(k=3).fit(references), list(range(20))
    drawn = index.search(queries, keys=keys).index
    nearly = index.search(queries + np.float32(1e-6), keys=keys).index
    assert [set(row) for row in drawn] == [set(row) for row in nearly]
    assert not np.array_equal(index.search(queries, keys=[k + 1 for k in keys]).index, drawn)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FaissKNN(k=0), r"faiss-knn\.k .*>= 1, got 0"),
        (lambda: FaissKNN(k=2.0), r"faiss-knn\.k .*a whole number"),
        (lambda: FaissRadius(epsilon=2.1), r"faiss-radius\.epsilon .*>= 0 and <= 2, got 2\.1"),
        (lambda: FaissRadius(limit=0), r"faiss-radius\.limit"),
        (lambda: RandomNeighbours(k=-1), r"random\.k"),
        (lambda: RandomNeighbours(seed=-1), r"random\.seed"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def clustered(n, seed):
    """Vectors in a hundred heaps, as texts on a hundred topics are."""
    draw = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(100, 32))
    return centers[draw.integers(100, size=n)] + 0.5 * draw.normal(size=(n, 32))
