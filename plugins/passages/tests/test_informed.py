"""Knowledge and pathway together: what is told, what it costs, and which way is chosen."""

import json
from dataclasses import replace

import pytest
from c3po_passages import Informed, search
from c3po_passages.passages import read_passages
from study.configs import parse_config

from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.optimizers import NoStep
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.tasks.formats import Cloze
from c3po_adaptive.testing import AnswererContract, toy_context, write_tiny_checkpoint
from c3po_adaptive.testing.answerers import toy_questions

pytestmark = pytest.mark.usefixtures("undrawn")

ASKED = toy_questions(5, "asked")
FACTS = ["Wood floats on water.", "Stones sink.", "The sun is a star.", "Cows eat grass."]


@pytest.fixture
def facts(tmp_path):
    file = tmp_path / "facts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in FACTS), encoding="utf-8")
    return str(file)


class TestInformed(AnswererContract):
    @pytest.fixture(params=[{}, {"k": 3}, {"choose": True, "training": 16, "price": 0.1}], ids=str)
    def answerer(self, request, facts):
        return Informed(passages=facts, **request.param)


def context(optimizer=None, **settings):
    made = toy_context(**{"learn_from": "all", "max_similarity": 1.0} | settings)
    return made if optimizer is None else replace(made, strategies=replace(made.strategies, optimizer=optimizer))


def test_the_nearest_passages_stand_before_the_question(facts):
    made = context(NoStep())
    for question, answer in zip(ASKED, Informed(passages=facts, k=2).prepare(made).answer(ASKED), strict=True):
        by_id = {p.id: p.text for p in read_passages(facts)}
        told = tuple(by_id[id_] for id_, _, _ in reversed(answer.neighbours))
        assert len(told) == 2
        longer = Cloze(shots=told)
        assert answer.scores == pytest.approx(made.model.score_choices(question, format=longer).tolist(), abs=1e-4)
        assert answer.base_scores == pytest.approx(made.model.score_choices(question).tolist(), abs=1e-4)
        assert answer.cost.prefill == made.model.plain_work(made.model.encode(question, longer)).flops
        assert answer.base_flops == made.model.plain_work(made.model.encode(question)).flops < answer.cost.prefill


def test_the_optimizer_re_mixes_what_was_told(facts):
    silent, both = (Informed(passages=facts).prepare(made).answer(ASKED) for made in (context(NoStep()), context()))
    assert any(a.scores != b.scores for a, b in zip(silent, both, strict=True))
    assert all(b.layers and len(b.neighbours) == 4 for b in both), "a passage and three references"


def test_what_does_not_fit_is_left_out_by_whole_passages(tmp_path):
    file = tmp_path / "facts.txt"
    file.write_text("wood " * 5000 + "\n\nStones sink.\n\n" + "grass " * 5000, encoding="utf-8")
    with pytest.warns(UserWarning, match="2 of 3 passages do not fit"):
        answers = Informed(passages=str(file), k=3).prepare(context(NoStep())).answer(ASKED)
    assert all([id_ for id_, _, _ in a.neighbours] == ["facts.1"] for a in answers), "whichever is nearest"


def test_near_duplicates_of_the_question_are_not_told(tmp_path):
    file = tmp_path / "facts.jsonl"
    lines = [{"text": ASKED[0].question}, {"text": "Stones sink."}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (answer,) = Informed(passages=str(file), k=2).prepare(context(NoStep(), max_similarity=0.95)).answer(ASKED[:1])
    assert [id_ for id_, _, _ in answer.neighbours] == ["facts.1"]


def test_the_questions_own_solved_example_is_not_told(tmp_path):
    """By its id, and by its question: with the answer it would look like another text."""
    file = tmp_path / "examples.jsonl"
    row = {"question": ASKED[0].question, "choices": list(ASKED[0].choices), "answer": 0}
    rows = [row | {"id": ASKED[0].id, "question": "Another?"}, row | {"id": "copy"}, row | {"question": "Do cows fly?"}]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    (answer,) = Informed(passages=str(file), k=3).prepare(context(NoStep(), max_similarity=0.95)).answer(ASKED[:1])
    assert [id_ for id_, _, _ in answer.neighbours] == ["examples.2"]


def test_the_way_is_chosen_by_what_it_is_predicted_to_gain(facts):
    """With a price that nothing is worth, all are answered plainly, at the plain cost."""
    free, dear = (
        Informed(passages=facts, choose=True, training=16, price=price).prepare(context()).answer(ASKED)
        for price in (0.0, 1e6)
    )
    assert all(a.scores == pytest.approx(a.base_scores, abs=1e-6) for a in dear)
    assert all(a.cost.total == a.base_flops + a.cost.embedding > a.base_flops for a in dear), "passages were looked for"
    assert len({a.setup_flops for a in free}) == len({a.reference_flops for a in free}) == 1, "whatever was chosen"
    assert all(a.strength is not None for a in free)
    assert dear[0].setup_flops > 0, "trying each way on references is paid for"
    for a in free:
        assert a.strength <= 0 or a.scores != a.base_scores


@pytest.mark.parametrize("way", [{}, {"choose": True, "training": 16}], ids=str)
def test_the_language_is_checked_once_by_the_first_questions(way, facts, monkeypatch):
    looked = []
    monkeypatch.setattr(search, "strangers", lambda asked, *_: looked.append(asked) or "")
    answerer = Informed(passages=facts, **way).prepare(context(NoStep()))
    for asked in ([], ASKED[:2], ASKED)[len(way) > 0 :]:  # as what chooses gives a way that it chose for none
        answerer.answer(asked)
    assert looked == [[question.question for question in ASKED[:2]]]


@pytest.mark.parametrize("wrong", [{"passages": ""}, {"k": 0}, {"training": 2}, {"price": -1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Informed(**{"passages": "facts.jsonl"} | wrong)


def test_too_few_references_to_choose_by_are_refused(facts):
    with pytest.raises(SettingError, match="64 references"):
        Informed(passages=facts, choose=True).prepare(context())


def test_a_run_is_not_gone_on_with_after_the_file_changed(facts, tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    write_tiny_checkpoint(tmp_path / "model", "olmoe")
    asked = tmp_path / "asked.jsonl"
    rows = [{"id": q.id, "question": q.question, "choices": q.choices, "answer": q.answer} for q in ASKED]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = parse_config(
        {
            "model": str(tmp_path / "model"),
            "datasets": [{"name": "toy", "questions": str(asked)}],
            "arms": {
                "base": {"optimizer": "none"},
                "text": {"optimizer": "none", "answerer": {"name": "informed", "passages": facts}},
            },
        }
    )
    STUDY.run(config, tmp_path / "run")
    STUDY.run(config, tmp_path / "run")
    with open(facts, "a", encoding="utf-8") as file:
        file.write('{"text": "Fire is hot."}\n')
    with pytest.raises(DataError, match="files"):
        STUDY.run(config, tmp_path / "run")
