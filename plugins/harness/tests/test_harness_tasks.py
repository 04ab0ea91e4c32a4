"""Tasks of lm-evaluation-harness as data sets: the words and the right answers that the harness itself has."""

import json

import pytest
import yaml

pytest.importorskip("lm_eval", reason="the extra eval is not installed")

from c3po_harness import C3POLM
from local_tasks import DOCS, asked, requests, write_tasks
from typer.testing import CliRunner

from c3po_adaptive import RoutedModel
from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError, UnknownNameError
from c3po_adaptive.references.build import labeled_questions
from c3po_adaptive.tasks import questions
from c3po_adaptive.tasks.sources import ASKED, LEARNED_FROM
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint

PLAIN = {"name": "cloze", "normalize": "none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def model():
    return RoutedModel(tiny_moe("olmoe"), tiny_tokenizer(), name="olmoe")


def source(folder, name, split=""):
    return f"lm_eval:{folder / name}.yaml{split and ':' + split}"


def test_a_task_is_a_data_set_by_name(folder):
    found = questions(source(folder, "options"), usual=ASKED)
    assert [q.question for q in found] == [f"Question: {d['question']}\nAnswer:" for d in DOCS]
    assert [q.choices for q in found] == [tuple(f" {c}" for c in d["choices"]) for d in DOCS]
    assert [q.answer for q in found] == [d["answer"] for d in DOCS]
    assert {(q.task, q.split, q.subject) for q in found} == {("lm_eval:options", "test", "")}
    assert found[1].id == "options.test.00001"


def test_splits_are_those_of_the_task(folder):
    assert questions(source(folder, "options", "train"))[0].id == "options.train.00000"
    assert questions(source(folder, "options"), usual=LEARNED_FROM)[0].split == "train"
    assert labeled_questions(source(folder, "options"))[0].split == "train"
    assert len(questions(source(folder, "options", "test"), limit=2)) == 2
    with pytest.raises(DataError, match=r"options: expected a split, got 'validation'; there are test, train; "):
        questions(source(folder, "options", "validation"))
    with pytest.raises(DataError, match=r"got None; there are .*; name one with split"):
        questions(source(folder, "options"))


@pytest.mark.parametrize("name", ["options", "letters", "blanks"])
def test_options_score_as_they_do_in_the_harness(folder, model, name):
    """The same words, to the last blank."""
    scores = model.score_choices(questions(source(folder, name, "test")), format=PLAIN)
    theirs = [total for total, _ in asked(C3POLM(model, batch_size=4), requests(folder, name))]
    assert [s for one in scores for s in one.tolist()] == pytest.approx(theirs, abs=1e-4)


def test_contexts_of_their_own_are_a_sentence_with_a_blank(folder):
    """As WinoGrande has them: the option stands in the sentence, and what is scored behind it."""
    found = questions(source(folder, "own_contexts", "test"))
    assert found[0].question == "which of them floats? the answer a _ is right.", "a word that they share"
    assert found[0].choices == ("stone", "boat")
    assert found[3].question == "what is hot? the answer _ is right."
    assert found[3].choices == ("fire", "ice")
    assert [q.answer for q in found] == [d["answer"] for d in DOCS]
    assert {q.task for q in found} == {"own_contexts"}


def test_their_options_may_be_given_as_they_are_there(folder, model):
    partial = PLAIN | {"partial": ["own_contexts"]}
    scores = model.score_choices(questions(source(folder, "own_contexts", "test")), format=partial)
    theirs = [total for total, _ in asked(C3POLM(model, batch_size=4), requests(folder, "own_contexts"))]
    assert [s for one in scores for s in one.tolist()] == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("generation", "expected tasks that score options .*, got 'generation' of the kind generate_until"),
        ("texts", "of the kind loglikelihood_rolling; run that one by python -m c3po_harness"),
        ("one", "of the kind loglikelihood;"),
        ("no_context", "no_context .test., document 0: expected a context that its options follow, or"),
        ("several_right", r"document 0: expected one right choice among 3, got \[0, 1\]; choose a split with labels"),
    ],
)
def test_what_are_no_questions_with_one_right_answer_is_refused(folder, name, said):
    with pytest.raises(DataError, match=said):
        questions(source(folder, name, "test"))


def test_a_task_that_neither_scores_nor_generates_is_refused(folder, tmp_path):
    made = yaml.safe_load((folder / "options.yaml").read_text()) | {"task": "drawing", "output_type": "draw_picture"}
    (tmp_path / "drawing.yaml").write_text(yaml.safe_dump(made))
    with pytest.raises(DataError, match="a task that loads, got ValueError: Got invalid output_type 'draw_picture'"):
        questions(source(tmp_path, "drawing", "test"))


def test_a_group_is_all_of_its_tasks(folder, tmp_path):
    """Its questions know which of them they are of."""
    for name in ("options", "letters"):
        (tmp_path / f"{name}.yaml").write_text((folder / f"{name}.yaml").read_text())
    (tmp_path / "file.yaml").write_text(yaml.safe_dump({"group": "both", "task": ["options", "letters"]}))
    found = questions(source(tmp_path, "file", "test"))
    assert len(found) == 2 * len(DOCS)
    assert {q.task for q in found} == {"lm_eval:both"}
    assert [found[0].subject, found[-1].subject] == ["options", "letters"]


def test_names_that_there_are_not(tmp_path):
    with pytest.raises(
        UnknownNameError, match=r"a task of lm-evaluation-harness, or a file of one, got '.*/gone.yaml'"
    ):
        questions(f"lm_eval:{tmp_path}/gone.yaml:test")


def test_letters_would_be_listed_twice(folder, model):
    with pytest.raises(SettingError, match="the cloze format for lm_eval:letters"):
        model.score_choices(questions(source(folder, "letters", "test")), format="letter")


def test_the_demo_takes_one(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    model = write_tiny_checkpoint(tmp_path / "model", "olmoe")
    task = source(folder, "options")
    command = ["demo", "--model", model, "--questions", f"{task}:test", "--references", f"{task}:train"]
    done = CliRunner().invoke(app, [*map(str, command), "--arm", "base", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    (row,) = json.loads((tmp_path / "run" / "summary.json").read_text())["rows"]
    assert (row["dataset"], row["n"]) == ("options", len(DOCS))
