"""Two models with the same routers and other experts are two: what was made with one is not taken for the other's."""

import json

import pytest
import torch
from routing.naive import routed_model
from routing.toys import HashEmbedder, questions
from study.configs import parse_config

from c3po_adaptive.errors import DataError
from c3po_adaptive.optimizers._reference_artifacts import GRADIENT
from c3po_adaptive.references.artifacts import of_references
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.prefill_store import build_store, open_store
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.registry import default_registry
from c3po_adaptive.settings import RemixSettings
from c3po_adaptive.study.comparison import STUDY


@pytest.fixture
def first():
    return routed_model("olmoe")


@pytest.fixture
def second():
    """Fine-tuned in one expert of one layer, by little."""
    model = routed_model("olmoe")
    name = next(name for name, _ in model.model.named_parameters() if "experts" in name)
    with torch.no_grad():
        model.model.get_parameter(name).view(-1)[0] += 1e-3
    return model


@pytest.fixture
def references(first, tmp_path):
    build_reference_set(first, questions(24), HashEmbedder()).save(tmp_path / "set")
    return ReferenceSet.load(tmp_path / "set")


def test_a_reference_set(first, second, references):
    references.check(first, "cloze", HashEmbedder())
    with pytest.raises(DataError, match=r"model.*build it again|model.*build"):
        references.check(second, "cloze", HashEmbedder())


def test_a_warm_store(first, second, references, tmp_path):
    build_store(references, first, tmp_path / "warm")
    assert open_store(references, first, tmp_path / "warm", "cloze") is not None
    with pytest.warns(UserWarning, match="is of another model"):
        assert open_store(references, second, tmp_path / "warm", "cloze") is None


def test_kept_gradients(first, second, tmp_path):
    asked, run = questions(3), []

    def kept(model):
        def states(prompts):
            run.append((model, len(prompts)))
            return model.prefill(prompts)

        prompts, answers = [model.encode(q) for q in asked], [q.answer for q in asked]
        return of_references(GRADIENT, model, prompts, answers, states, RemixSettings(), folder=tmp_path)

    kept(first), kept(first), kept(second)
    assert run == [(first, 3), (second, 3)], "the first one's own are read, those of the other are not"


def test_a_run(first, second, tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    rows = [
        {"id": q.id, "task": "t", "question": q.question, "choices": q.choices, "answer": q.answer}
        for q in questions(8)
    ]
    for name, part in (("test", rows[:3]), ("references", rows[3:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    data = {"name": "d", "questions": str(tmp_path / "test.jsonl"), "split": None}
    data["references"] = [str(tmp_path / "references.jsonl")]
    arms = {
        "base": {"optimizer": "none"},
        "ngd": {"optimizer": {"name": "ngd", "steps": 1}, "selector": {"name": "fixed", "n": 1, "experts": 4}},
    }
    config = parse_config({"datasets": [data], "arms": arms})
    STUDY.run(config, tmp_path / "run", registry=default_registry(), model=first)
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    with pytest.raises(DataError, match=r"differ in inputs\.model"):
        STUDY.run(config, tmp_path / "run", registry=default_registry(), model=second)
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before
