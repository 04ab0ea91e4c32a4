"""The study of long inputs: what stands in front of its questions, and what its page says of the kept answers."""

import json

import pytest
import yaml
from long import collect, compare, questions, scopes
from records.made import answered

from c3po_adaptive.types import Question


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


def test_the_summary_is_what_the_records_say():
    kept = json.loads((compare.RESULTS / "summary.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(compare.summary())) == kept
    (primary,) = (c for c in kept["comparisons"] if c["primary"])
    assert (primary["dataset"], primary["a"], primary["b"]) == compare.PRIMARY


def test_the_same_questions_were_asked_at_every_length_by_every_arm():
    arms = yaml.safe_load((compare.RESULTS.parent / "config.yaml").read_text())["arms"]
    answers = compare.kept()
    assert list(answers) == [str(tokens) for tokens in questions.TOKENS]
    asked = {frozenset(r.id for r in own) for of in answers.values() for own in of.values()}
    routed = json.loads((compare.RESULTS / "routing.json").read_text())
    asked |= {frozenset(row["id"] for row in rows) for rows in routed.values()}
    assert [len(ids) for ids in asked] == [questions.ASKED]
    assert all(of.keys() == arms.keys() for of in answers.values())


def test_the_summary_of_the_second_round_is_what_the_records_say():
    kept = json.loads((scopes.RESULTS / "scopes.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(scopes.summary())) == kept
    (primary,) = (c for c in kept["comparisons"] if c["primary"])
    assert (primary["dataset"], primary["a"], primary["b"]) == scopes.PRIMARY
    answers, config = scopes.kept(), yaml.safe_load((scopes.RESULTS.parent / "scopes.yaml").read_text())
    assert [data["name"] for data in config["datasets"]] == list(answers) == list(scopes.SETS)
    assert {frozenset(r.id for r in own) for arms in answers.values() for own in arms.values()} == {
        frozenset(r.id for r in compare.kept()["512"]["base"])
    }, "the questions of the first round"
    assert all(arms.keys() == config["arms"].keys() for arms in answers.values())


def test_what_is_won_by_question():
    def of(right):
        return [answered(id=str(n), arm="", correct=correct) for n, correct in enumerate(right)]

    assert scopes.gains({"base": of([True, False, True]), "each": of([False, True, True])}, "each") == {
        "0": -1.0, "1": 1.0, "2": 0.0,
    }  # fmt: skip


def test_experts_that_two_questions_share():
    rows = [{"id": "a/1", "experts": [[0, 1], [2]]}, {"id": "b/1", "experts": [[1, 3], [2]]}]
    assert compare.shared(*rows) == pytest.approx(2 / 3)


def test_weight_on_a_questions_own_kind():
    near = [{"id": "sciq/1", "similarity": 0.5, "weight": 3.0}, {"id": "piqa/2", "similarity": 0.4, "weight": 1.0}]
    record = answered(id="sciq/7", arm="each", dataset="512", subject="sciq", neighbours=near)
    assert collect.of_own_kind([record], "each") == {"512": [0.75]}


def test_what_the_page_says_beside_intervals():
    told, said = compare.summary(), (compare.RESULTS.parent / "README.md").read_text()
    own = told["weight on own kind"]
    alone, behind = (f"{own[length]:.0f} %" for length in ("0", "512"))
    assert f"Alone {alone} of the weight of the sixteen nearest is on that kind, behind 512 tokens {behind}" in said
    again = scopes.summary()["weight on own kind"]
    assert f"(`about`, second round), {again[scopes.QUESTION]:.0f} % are" in said
    stand = [(c.dataset, c.a, c.b) for c in scopes.comparisons(scopes.kept()) if c.p_holm < 0.05]
    assert stand == [(scopes.QUESTION, "each", "each, shuffled labels")]
    assert 2.5 < told["entropy"]["512"] / told["entropy"]["0"] < 3.5 and "entropy triples" in said
