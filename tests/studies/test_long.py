"""The study of long inputs: what stands in front of its questions, and what its page says of the kept answers."""

import json
from pathlib import Path

import pytest
from c3po_compare import answers
from long import neighbours, questions, routing
from records.made import answered

from c3po_adaptive.types import Question

STUDY = Path(__file__).parents[2] / "studies" / "long"


def kept(name):
    return json.loads((STUDY / "results" / f"{name}.json").read_text(encoding="utf-8"))


def words(text):
    return text.split(" ")


class TestQuestions:
    def test_so_many_tokens_stand_in_front_and_texts_begin_again(self):
        front = questions.in_front(["one two", "three"], 7, words, " ".join, "a")
        assert len(words(front)) == 7 and front.count("one") > 1
        assert questions.in_front(["one two", "three"], 0, words, " ".join, "a") == ""

    def test_each_question_has_texts_in_an_order_of_its_own(self):
        texts = [f"article {n}" for n in range(50)]
        first, again, other = (questions.in_front(texts, 20, words, " ".join, seed) for seed in "aab")
        assert first == again != other

    def test_the_question_ends_it_and_is_itself_behind_nothing(self):
        asked = Question(id="sciq/1", question="What?", choices=("a", "b"), answer=0)
        assert questions.behind(asked, "News.").question == "News.\n\nWhat?"
        assert questions.behind(asked, "") == asked


def test_the_same_questions_were_asked_at_every_length_by_every_arm():
    table = answers(*(STUDY / "results" / f"{name}.parquet" for name in ("early", "scopes")))
    asked = {*table.groupby(["model", "dataset", "arm"]).question.agg(frozenset)}
    asked |= {frozenset(row["id"] for row in rows) for rows in kept("routing").values()}
    assert [len(ids) for ids in asked] == [questions.ASKED]


def test_experts_that_two_questions_share():
    rows = [{"id": "a/1", "experts": [[0, 1], [2]]}, {"id": "b/1", "experts": [[1, 3], [2]]}]
    assert routing.shared(*rows) == pytest.approx(2 / 3)


def test_weight_on_a_questions_own_kind():
    near = [{"id": "sciq/1", "similarity": 0.5, "weight": 3.0}, {"id": "piqa/2", "similarity": 0.4, "weight": 1.0}]
    record = answered(id="sciq/7", arm="each", dataset="512", subject="sciq", neighbours=near)
    assert neighbours.of_own_kind([record], "each") == {"512": [0.75]}


def test_what_changes_in_routing_is_of_the_rows_that_are_kept():
    found, told = routing.changes(kept("routing")), kept("changes")
    assert found.keys() == told.keys()
    for name in ("right", "entropy"):
        assert found[name] == pytest.approx(told[name])
    for name in ("lost", "same experts"):
        assert found[name].keys() == told[name].keys()
        assert all(own == pytest.approx(told[name][length]) for length, own in found[name].items())


def test_what_the_page_says_beside_intervals():
    said = (STUDY / "README.md").read_text(encoding="utf-8")
    first, second = (
        {name: f"{100 * sum(own) / len(own):.0f} %" for name, own in kept(file).items()}
        for file in ("neighbours", "scopes_neighbours")
    )
    alone, behind = first["0"], first["512"]
    assert f"Alone {alone} of the weight of the sixteen nearest is on that kind, behind 512 tokens {behind}" in said
    assert f"(`about`, second round), {second['512, by the question']} are" in said
    compared = kept("summary")["comparisons"] + kept("scopes/summary")["comparisons"]
    (stands,) = (c for c in compared if c["verdict"] in ("better", "worse"))
    assert (stands["on"], stands["a"], stands["b"]) == ("512, by the question", "each", "each, shuffled labels")
    entropy = kept("changes")["entropy"]
    assert 2.5 < entropy["512"] / entropy["0"] < 3.5 and "entropy triples" in said
