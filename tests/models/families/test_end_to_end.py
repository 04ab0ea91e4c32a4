"""A family from a folder to a report: a reference set, every optimizer, the attribution selector, both formats."""

import json

import pytest
import torch
from records.made import plain
from routing.toys import questions
from study.configs import parse_config, written

from c3po_adaptive import Optimizer, ReferenceSet
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")
FAMILIES = ("olmoe", "deepseek", "qwen3_moe", "gpt_oss", "jamba", "deepseek_v3")
SMALL = {"n": 2, "experts": 5}
REGISTRY = new_registry(installed=False)
FIXED, ATTRIBUTION = {"name": "fixed", **SMALL}, {"name": "attribution", **SMALL}
SETTINGS = {
    "ngd": {"steps": 3},
    "oracle": {"of": {"name": "ngd", "steps": 3, "lr": 0.1}},
    "kernel-regression": {"alpha": 0.5},
}
ARMS = {
    "base": {"optimizer": "none", "selector": {"name": "fixed", "n": 0}},
    **{
        name: {"optimizer": {"name": name, **SETTINGS.get(name, {})}, "selector": FIXED}
        for name in REGISTRY.names("optimizer")
        if name not in ("none", "fault-undone")  # which needs a model with a known fault
    },
    "core": {"optimizer": {"name": "none", "start": "core"}, "selector": FIXED},
    "attribution": {"optimizer": {"name": "ngd", "steps": 3}, "selector": ATTRIBUTION},
}


@pytest.mark.parametrize(("family", "format"), [*((family, "cloze") for family in FAMILIES), ("olmoe", "letter")])
def test_run(family, format, tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    write_tiny_checkpoint(tmp_path / "model", family)
    data = {
        "name": "toy",
        "questions": written(tmp_path / "test.jsonl", questions(5, "t")),
        "split": None,
        "references": [written(tmp_path / "references.jsonl", questions(30))],
    }
    config = {"model": str(tmp_path / "model"), "format": format, "datasets": [data], "arms": ARMS, "batch_size": 3}
    summary = plain(STUDY.run(parse_config(config), tmp_path / "run", registry=REGISTRY))
    rows = {row["arm"]: row for row in summary["rows"]}
    assert rows.keys() == ARMS.keys()
    moved = {
        arm
        for arm in ARMS
        for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()
        if (record := json.loads(line))["arm"] == arm and record["scores"] != record["base_scores"]
    }
    assert moved == ARMS.keys() - {"base"}, "every arm moves some question's scores, and the base none"
    report = (tmp_path / "run" / "report.html").read_text()
    assert all(arm in report for arm in ARMS)


@pytest.mark.parametrize("family", FAMILIES[:2])
def test_friendly_face(family, tmp_path, monkeypatch):
    """The README's first lines."""
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    model = load_moe_model(write_tiny_checkpoint(tmp_path / "model", family))
    c3po = Optimizer(
        model,
        refset=written(tmp_path / "references.jsonl", questions(30)),
        optimizer={"name": "ngd", "steps": 2},
        selector=ATTRIBUTION,
    )
    assert isinstance(c3po.references, ReferenceSet)
    text = "Which object can float on water?"
    omega = c3po.optimize(text)
    assert omega.changed().sum() == 2
    base, new = model.forward(text).logits, model.forward(text, routing=omega).logits
    assert torch.equal(base[:, :-1], new[:, :-1])
    assert not torch.equal(base[:, -1], new[:, -1])
    assert isinstance(model.generate(text, routing=omega, max_new_tokens=3), str)
    answer = c3po.answer(text, ["a stone", "a wooden boat"])
    assert answer.choice in (0, 1)
