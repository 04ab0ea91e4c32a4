"""Which references a data set has: draws of so many, and what they have in common."""

import json

import pytest

from c3po_adaptive.errors import SettingError
from c3po_adaptive.study.config import Dataset
from c3po_adaptive.study.data import references_of


@pytest.fixture
def source(tmp_path):
    rows = [
        {"id": f"r{i}", "question": f"Is {i} odd?", "choices": ["yes", "no"], "answer": 1 - i % 2} for i in range(20)
    ]
    (tmp_path / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "known.jsonl")


def ids(source, **drawn):
    return [q.id for q in references_of(Dataset(name="t", questions="demo", references=(source,), **drawn))]


def test_draws_follow_one_another(source):
    """In one order, the first as without draws; none in common while the source lasts."""
    draws = [ids(source, references_limit=6, references_draw=d) for d in range(5)]
    assert draws[0] == ids(source, references_limit=6)
    assert all(len(set(draw)) == 6 for draw in draws)
    assert len({*draws[0], *draws[1], *draws[2]}) == 18
    before = {*draws[0], *draws[1], *draws[2]}
    assert {*draws[3]} - before == {f"r{i}" for i in range(20)} - before
    assert draws[3][2:] == draws[0][:4], "it begins again where it ends"
    assert draws[4] == draws[0][4:] + draws[1][:4]


def test_all_of_a_small_source(source):
    assert sorted(ids(source, references_limit=50, references_draw=1)) == sorted(ids(source))


def test_a_draw_is_of_a_number(source):
    with pytest.raises(SettingError, match="expected references_limit beside references_draw"):
        ids(source, references_draw=1)
