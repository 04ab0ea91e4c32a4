"""Agreement of arms, against numbers worked out by hand."""

import pytest
from records.made import answered, plain

from c3po_adaptive.analysis.pathway_similarity import change, cosine, similarity_of_pathways


def record(number, arm, own, new, choice=0, seed=0):
    pathway = {"5": {"own": own, "new": new}} if new else {}
    return answered(id=str(number), arm=arm, seed=seed, choice=choice, pathway=pathway)


def test_change_holds_what_is_not_zero():
    found = change(record(0, "a", {"1": 0.5, "2": 0.5}, {"1": 0.5, "2": 0.2, "3": 0.3}))
    assert found == {(5, 2): pytest.approx(-0.3), (5, 3): 0.3}
    assert change(record(0, "a", {}, {})) == {}


def test_cosine():
    assert cosine({1: 3.0, 2: 4.0}, {1: 3.0, 2: 4.0}) == pytest.approx(1)
    assert cosine({1: 1.0}, {2: 1.0}) == 0
    assert cosine({1: 1.0, 2: 1.0}, {1: -2.0}) == pytest.approx(-(0.5**0.5))


def test_rows():
    own = {"1": 0.5, "2": 0.5}
    up, down, aside = {"1": 0.6, "2": 0.4}, {"1": 0.4, "2": 0.6}, {"2": 0.4, "3": 0.6}
    arms = {
        "ngd": [record(0, "ngd", own, up), record(1, "ngd", own, up, 1), record(2, "ngd", own, {})],
        "same": [record(0, "same", own, up), record(1, "same", own, up), record(2, "same", own, up)],
        "against": [record(0, "against", own, down), record(1, "against", own, down, 1), record(2, "against", own, up)],
        "base": [record(i, "base", own, {}) for i in range(3)],
    }
    rows = {row.arm: plain(row) for row in similarity_of_pathways(arms, "ngd", seed=0)}
    assert list(rows) == ["same", "against"], "neither the standard itself nor one that never moves"
    assert rows["same"]["cosine"] == pytest.approx(1)
    assert rows["same"]["n"] == 2, "of the third question the standard left ω alone"
    assert rows["same"]["same_answers"] == pytest.approx(200 / 3)
    assert rows["against"]["cosine"] == rows["against"]["ci_high"] == pytest.approx(-1)
    assert rows["against"]["same_answers"] == 100
    arms["against"][1] = record(1, "against", {"2": 0.5, "1": 0.5}, aside, 1)
    (mixed,) = (plain(row) for row in similarity_of_pathways(arms, "ngd", seed=0) if row.arm == "against")
    assert mixed["ci_low"] == pytest.approx(-1)
    assert -1 < mixed["cosine"] < mixed["ci_high"]


def test_of_several_draws_the_first_counts():
    """Ninety-nine of a question are not as many questions."""
    own, up, down = {"1": 0.5, "2": 0.5}, {"1": 0.6, "2": 0.4}, {"1": 0.4, "2": 0.6}
    drawn = [record(i, "drawn", own, new, seed=seed) for seed, new in enumerate((up, down)) for i in range(3)]
    arms = {"ngd": [record(i, "ngd", own, up) for i in range(3)], "drawn": drawn}
    for standard in arms:
        (row,) = similarity_of_pathways(arms, standard, seed=0)
        assert row.n == 3
        assert row.cosine == pytest.approx(1)
