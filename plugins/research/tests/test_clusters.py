"""A neighbourhood a cluster: those that lie together, and all of them."""

import numpy as np
from c3po_research.clusters import NearestCluster


def groups():
    """Three groups of 5, 7 and 9 rows, each around an axis, in a mixed order; and each row's group."""
    draw = np.random.default_rng(0)
    group = draw.permutation(np.repeat([0, 1, 2], [5, 7, 9]))
    return np.eye(3)[group] + 0.1 * draw.normal(size=(21, 3)), group


def test_neighbours_are_all_of_the_nearest_cluster_and_no_others():
    rows, group = groups()
    hits = NearestCluster(clusters=3).fit(rows).search(np.eye(3))
    assert hits.index.shape == (3, 9)
    for axis, found in enumerate(hits.index):
        assert {*found[found >= 0].tolist()} == {*np.flatnonzero(group == axis).tolist()}


def test_one_cluster_is_all_references():
    rows, _ = groups()
    hits = NearestCluster(clusters=1).fit(rows).search(rows[:2], exclude=[{0}, ()])
    assert sorted(hits.index[0]) == [-1, *range(1, 21)]
    assert sorted(hits.index[1]) == [*range(21)]


def test_a_question_is_not_moved_to_another_cluster_when_its_own_is_banned():
    rows, group = groups()
    own = {*np.flatnonzero(group == 0).tolist()}
    hits = NearestCluster(clusters=3).fit(rows).search(np.eye(3)[:1], exclude=[own])
    assert (hits.index == -1).all()
