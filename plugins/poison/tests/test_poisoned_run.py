"""Data sets that are poisoned by name, run from their configuration to the summary."""

import json

import pytest
from study.configs import parse_config

from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker
from c3po_adaptive.study.data import counted_in_words, read_data
from c3po_adaptive.study.executor import Piece
from c3po_adaptive.study.study_config import OnQuestions
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")

TOPICS = (("a kettle on the fire", 0), ("snow on the high hills", 1))
NEAR = {
    "optimizer": {"name": "integrated-step", "lr": 5},
    "retriever": {"name": "faiss-knn", "k": 12},
    "selector": {"name": "fixed", "layers": "all", "experts": None},
}
ARMS = {"base": {"optimizer": "none"}, "near": NEAR, "consistent": NEAR | {"learn_from": "consistent"}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("poisoned")
    write_tiny_checkpoint(folder / "model", "qwen2_moe")
    for name, count in (("asked", 2), ("known", 6)):
        rows = [
            {"id": f"{name} {topic} {i}", "question": f"Is {topic} {name} {i} hot?", "choices": ["hot", "cold"]}
            | {"answer": answer}
            for topic, answer in TOPICS
            for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        yield folder


def config(place, arms=ARMS, references="known.jsonl", **poisons):
    data = {"questions": str(place / "asked.jsonl"), "references": [str(place / references)]}
    datasets = [{"name": name, **data} | ({"poison": poison} if poison else {}) for name, poison in poisons.items()]
    given = {"model": str(place / "model"), "datasets": datasets, "arms": arms, "learn_from": "all"}
    return parse_config(given | {"pathways": False, "max_similarity": 1.0})


FLIPPED = {"attack": "flipped-labels", "share": 0.25}


def test_arms_learn_from_what_is_poisoned_and_the_summary_says_so(place, tmp_path):
    summary = STUDY.run(config(place, clean=None, flipped=FLIPPED), tmp_path / "run")
    assert summary.poisoned == ("flipped: flipped-labels, 3 of 12 references, 3 of which teach a wrong answer",)
    scores = {(r.dataset, r.arm, r.id): r.scores for r in read_records(tmp_path / "run", AnswerRecord)}
    ids = {id_ for _, _, id_ in scores}
    assert all(scores["clean", "base", id_] == scores["flipped", "base", id_] for id_ in ids)
    assert any(scores["clean", "near", id_] != scores["flipped", "near", id_] for id_ in ids)


def test_a_set_under_other_labels_is_not_run_again(place, monkeypatch):
    worker = ComparisonWorker(
        config(place, clean=None, flipped=FLIPPED, added={"attack": "near-duplicates", "share": 0.2})
    )
    clean = worker.reference_set("clean")
    monkeypatch.setattr("c3po_adaptive.references.build.build_reference_set", None)
    flipped = worker.reference_set("flipped")
    other = [i for i, q in enumerate(flipped.questions) if q != clean.questions[i]]
    assert len(other) == 3 and flipped.pathways.equal(clean.pathways)
    assert {i for i in range(12) if flipped.correct[i] != clean.correct[i]} == {*other}, "of two choices"
    monkeypatch.undo()
    added = worker.reference_set("added")
    assert len(added) == 15 and [q.id for q in added.questions[:12]] == [q.id for q in clean.questions]
    assert flipped.card["source"] != clean.card["source"]


def test_a_set_that_was_built_is_poisoned_too(place):
    clean = ComparisonWorker(config(place, clean=None)).reference_set("clean")
    clean.save(place / "built")
    found = ComparisonWorker(config(place, references="built", flipped=FLIPPED)).reference_set("flipped")
    assert sum(q != before for q, before in zip(found.questions, clean.questions, strict=True)) == 3


def test_what_finds_no_place_is_said_before_a_run(place):
    crafted = {"attack": "crafted-neighbours", "share": 0.2, "budget": 1, "similarity": 0.94}
    said = counted_in_words(read_data(config(place, hostile=crafted)))
    assert [
        line for line in said if line.startswith("poisoned: hostile: crafted-neighbours, 0 of 12 references; for 3")
    ]


@pytest.mark.parametrize("share", [-0.5, 1.01])
def test_a_share_that_is_none_names_the_key(place, share):
    with pytest.raises(SettingError, match=r"datasets\.0\.poison\.share: Input should be (less|greater) than or equal"):
        config(place, flipped=FLIPPED | {"share": share})


def test_references_that_are_not_there_cannot_be_poisoned(place):
    alone = {"name": "alone", "questions": str(place / "asked.jsonl"), "poison": FLIPPED}
    with pytest.raises(DataError, match="Expected references for flipped-labels to poison, got none"):
        read_data(OnQuestions(datasets=(alone,)))


def test_the_plugins_that_defend_are_arms(place, tmp_path):
    registry = new_registry()
    arms = {
        "base": {"optimizer": "none"},
        "capped": NEAR | {"kernel": {"name": "capped", "of": "gaussian", "cap": 0.1}},
        "median": NEAR | {"optimizer": {"name": "median-of-means", "of": NEAR["optimizer"]}},
        "agreeing": NEAR | {"optimizer": {"name": "agreeing", "of": NEAR["optimizer"]}},
        "one": NEAR | {"optimizer": {"name": "median-of-means", "of": "constant-integrated-step"}},
    }
    worker = ComparisonWorker.here(config(place, arms, clean=None), registry)
    (row, *_) = worker.rows(Piece("clean", "capped", 0, 0))
    assert max(neighbour.weight for neighbour in row.neighbours) <= 0.1 + 1e-4
    assert all(worker.rows(Piece("clean", arm, 0, 0)) for arm in ("median", "agreeing", "one"))
