"""Which questions and references a data set has: draws of so many, and what is given again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from c3po_adaptive import hookimpl
from c3po_adaptive.errors import DataError, PluginError, SettingError, UnknownNameError
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study import Poisoned
from c3po_adaptive.study.data import (
    counted,
    counted_in_words,
    counted_once,
    questions_of,
    read_data,
    references_of,
)
from c3po_adaptive.study.study_config import Dataset, OnQuestions
from c3po_adaptive.tasks import distinct


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


def test_a_question_of_two_data_sets_is_asked_in_the_first(source, tmp_path):
    """Not of data sets of one source, which differ in how they are asked."""
    more = [json.loads(line) | {"id": f"m{i}"} for i, line in enumerate(Path(source).read_text().splitlines())]
    more += [{"id": "new", "question": "Is 21 odd?", "choices": ["yes", "no"], "answer": 0}]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    sources = {"a": source, "again": source, "b": str(tmp_path / "more.jsonl")}
    data = read_data(OnQuestions(datasets=[{"name": name, "questions": one} for name, one in sources.items()]))
    assert {name: len(asked.questions) for name, asked in data.items()} == {"a": 20, "again": 20, "b": 1}
    assert counted_once(data)[0].startswith("b gives 20 of its questions again under another id, such as 'm0'")
    sources["b"] = str(shutil.copy(source, tmp_path / "copy.jsonl"))
    with pytest.raises(DataError, match="of 'b' that no other data set asks"):
        read_data(OnQuestions(datasets=[{"name": name, "questions": one} for name, one in sources.items()]))


class TestGivenAgain:
    """The same text and choices by another id: one question, asked once, and said."""

    ROWS = (
        ("a", "Is it?", ["yes", "no"], 0),
        ("b", "Is it?", ["no", "yes"], 1),  # the same, with the same answer
        ("c", "Is it?", ["yes", "no"], 1),  # the same, and contradicts
        ("d", "Is it ever?", ["yes", "no"], 0),  # another text
        ("e", "Is it?", ["never", "seldom"], 0),  # other choices
        ("f", "Was it?", ["yes", "no"], 0),
    )

    @pytest.fixture
    def dataset(self, tmp_path):
        rows = [{"id": i, "question": q, "choices": c, "answer": a} for i, q, c, a in self.ROWS]
        (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return lambda **more: Dataset(name="t", questions=str(tmp_path / "asked.jsonl"), **more)

    def test_is_asked_once_as_it_stands_first(self, dataset):
        assert [q.id for q in questions_of(dataset())] == ["a", "d", "e", "f"]

    def test_a_limit_is_of_different_questions(self, dataset):
        for limit in (1, 2, 3, 4):
            found = questions_of(dataset(limit=limit))
            assert len(found) == limit
            assert found == questions_of(dataset(limit=4))[:limit]

    def test_is_said_of_what_is_asked(self, dataset):
        data = read_data(OnQuestions(datasets=(dataset(),)))
        (said,) = counted_once(data)
        assert said.startswith(
            "t gives 2 of its questions again under another id (1 with another answer), such as 'b', "
        )
        assert f"counted once: {said}" in counted_in_words(data)
        assert counted(data) == [{"name": "t", "questions": 4, "references": 0, "given_again": 2}]
        few = [read_data(OnQuestions(datasets=(dataset(limit=n),))) for n in range(1, 5)]
        assert [bool(counted_once(d)) for d in few] == ["a" in {q.id for q in d["t"].questions} for d in few]

    def test_hardly_any_references_are_told(self, dataset, source):
        own = dataset(references=(dataset().questions,))
        said = counted_in_words(read_data(OnQuestions(datasets=(own,))))
        assert any(line.startswith("few references: t has 6: neighbours are most") for line in said)
        enough = counted_in_words(read_data(OnQuestions(datasets=(dataset(references=(source,)),))))
        assert not any("few references" in line for line in enough)

    def test_references_that_are_asked_are_said(self, dataset, source):
        """By id or text, and nothing else is."""
        data = read_data(OnQuestions(datasets=(Dataset(name="t", questions=source, limit=4, references=(source,)),)))
        assert counted_once(data) == []
        assert counted_in_words(data) == [
            "t: 4 questions, 20 references",
            "not trained on: t asks 4 of its 20 references, by id or text",
        ]
        (apart,) = read_data(OnQuestions(datasets=(dataset(references=(source,)),))).values()
        assert apart.known == 20
        ((one, *_), known) = apart.questions, apart.references[0]
        alike = [
            (replace(one, id="spaced", question=" is  IT?"), True),
            (replace(one, id="blank before punctuation", question="Is it ?"), True),
            (replace(one, id="zero-width space", question="Is\u200b it?"), True),
            (replace(one, id="other distractors", choices=("yes", "perhaps")), True),
            (replace(one, id="another answer", choices=("perhaps", "yes"), answer=0), False),
            (replace(one, id="another text", question="Is it not?"), False),
        ]
        for question, same in alike:
            assert replace(apart, references=(question, known)).known == 2 - same, question.id
            assert len(distinct([one, question])[0]) == 2 - same, question.id

    def test_references_stay_and_it_is_said(self, dataset):
        own = dataset(references=(dataset().questions,))
        assert [q.id for q in references_of(own)] == list("abcdef")
        said = counted_in_words(read_data(OnQuestions(datasets=(own,))))
        assert any(line.startswith("learned from as often: t gives 2 of its references again") for line in said)


class TestAttacks:
    @staticmethod
    def read(source, attack, name="mine"):
        registry = new_registry(installed=False)
        registry.register(SimpleNamespace(register_attacks=hookimpl(lambda: {"mine": attack})), "plugin-a")
        poisoned = Dataset(name="t", questions=source, references=(source,), poison={"attack": name, "share": 0.5})
        return read_data(OnQuestions(datasets=(poisoned,)), registry)

    def test_a_plugins_attack_is_carried_out(self, source):
        def inverted(poison, questions, references, encode):
            assert poison.share == 0.5
            added = replace(references[0], id="new", question="Is it?")
            return Poisoned(questions, [*(replace(q, answer=1 - q.answer) for q in references), added], "all of them")

        data = self.read(source, inverted)
        asked = data["t"]
        assert [q.answer for q in asked.references[:20]] == [1 - q.answer for q in asked.before]
        assert len(asked.references) == 21
        assert "poisoned: t: all of them" in counted_in_words(data)

    def test_one_that_nobody_brings_is_told_before_anything_is_read(self):
        with pytest.raises(UnknownNameError, match="an attack, got 'mime'; did you mean 'mine'"):
            self.read("nowhere.jsonl", None, "mime")

    @pytest.mark.parametrize("spoilt", [lambda r: r[1:], lambda r: r[::-1], lambda r: [replace(r[0], question="?")]])
    def test_references_stay_what_they_were(self, source, spoilt):
        """What the model did with them is not computed again."""
        with pytest.raises(PluginError, match="attack 'mine' to leave the references as they are, but for their"):
            self.read(source, lambda poison, questions, references, encode: Poisoned(questions, spoilt(references), ""))

    def test_what_is_no_data_set_is_refused(self, source):
        with pytest.raises(PluginError, match="attack 'mine' to give a Poisoned, got tuple"):
            self.read(source, lambda poison, questions, references, encode: (questions, references))
