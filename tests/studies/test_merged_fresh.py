"""Which questions a case is asked: the last of each kind's file, as many in all."""

import json

import pytest
from merged.fresh import app, kinds_of
from typer.testing import CliRunner

from c3po_adaptive.tasks import questions


@pytest.fixture
def pool(tmp_path):
    for kind in kinds_of("hidden_avg-8-0"):
        plain = {"task": kind, "question": "?", "choices": ["a", "b"], "answer": 0}
        rows = [json.dumps({"id": f"{kind}/f{n}", **plain}) for n in range(20)]
        (tmp_path / f"{kind}.fresh.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize(("case", "kinds", "each"), [("hidden_avg-8-0", 21, 10), ("real-hidden-8-0", 15, 14)])
def test_the_last_questions_of_each_kind_are_asked(pool, case, kinds, each):
    assert CliRunner().invoke(app, [case, "--pool", str(pool), "--out", str(pool / "asked.jsonl")]).exit_code == 0
    asked = [(q.id, q.subject) for q in questions(pool / "asked.jsonl")]
    assert asked == [(f"{kind}/f{n}", kind) for kind in kinds_of(case) for n in range(20 - each, 20)]
    assert len(kinds_of(case)) == kinds and len(asked) == 210


def test_balanced_ones_are_in_turn_of_each_right_answer_and_none_that_studies_learn_from(pool):
    for kind in kinds_of("real-hidden-8-0"):
        plain = {"task": kind, "question": "?", "choices": ["a", "b", "c"]}
        right = [0] * 90 + [1] * 90 + [2] * 20
        rows = [json.dumps({"id": f"{kind}/r{n}", **plain, "answer": one}) for n, one in enumerate(right)]
        (pool / f"{kind}.references.jsonl").write_text("\n".join(rows) + "\n")
    words = ["real-hidden-8-0", "--balanced", "--pool", str(pool), "--out", str(pool / "asked.jsonl")]
    assert CliRunner().invoke(app, words).exit_code == 0
    asked = questions(pool / "asked.jsonl")
    assert len(asked) == 210
    for kind in kinds_of("real-hidden-8-0"):
        own = [q for q in asked if q.subject == kind]
        assert sorted(sum(q.answer == one for q in own) for one in range(3)) == [4, 5, 5]
        assert not {q.id for q in own} & {q.id for q in questions(pool / f"{kind}.references.jsonl", limit=100)}


def test_too_few_questions_are_refused(pool):
    path = pool / "word_order.fresh.jsonl"
    path.write_text(path.read_text().splitlines()[0])
    result = CliRunner().invoke(app, ["few-3-0", "--pool", str(pool), "--out", str(pool / "asked.jsonl")])
    assert result.exit_code and "Expected 10 questions of word_order" in result.output
    assert not (pool / "asked.jsonl").exists()
