"""What a study takes, told before it runs: from a configuration alone, and at the pace of a run that was begun."""

import pytest
from routing.toys import questions
from study.configs import parse_config, written
from transformers import OlmoeConfig

from c3po_adaptive.errors import DataError, ModelError
from c3po_adaptive.models.deepseek import DeepseekConfig
from c3po_adaptive.models.loading import load_moe_model, model_config
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")

REAL = {
    "olmoe": OlmoeConfig(intermediate_size=1024, dtype="bfloat16"),
    "deepseek": DeepseekConfig(
        vocab_size=102400,
        hidden_size=2048,
        intermediate_size=10944,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=16,
        dtype="bfloat16",
    ),
}
"""As published; no weights."""
QUESTIONS = 12
ARMS = {
    "base": {"optimizer": "none"},
    "ngd": {"optimizer": {"name": "ngd", "steps": 2}, "selector": {"name": "fixed", "n": 2}},
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))

    def made(model, arms=("base", "ngd"), **settings):
        data = {
            "name": "toy",
            "questions": written(tmp_path / "test.jsonl", questions(QUESTIONS, "t")),
            "split": None,
            "references": [written(tmp_path / "references.jsonl", questions(30))],
        }
        arms = {name: ARMS[name] for name in arms}
        return parse_config({"model": str(model), "datasets": [data], "arms": arms, "batch_size": 6, **settings})

    return made


def planned(config, begun=None):
    return STUDY.plan(config, new_registry(), begun)


@pytest.mark.parametrize("family", REAL)
def test_a_configuration_without_weights_or_tokenizer_is_enough(config, tmp_path, family):
    REAL[family].save_pretrained(tmp_path / family)
    plan = planned(config(tmp_path / family))
    found = plan.values["forecast"]
    assert found["parameters"] == pytest.approx({"olmoe": 6.92e9, "deepseek": 16.38e9}[family], rel=1e-3)
    assert found["bytes"] == 2 * found["parameters"]
    assert found["answers"] == 2 * QUESTIONS
    tokens = found["flops"] / (2 * {"olmoe": 1.28e9, "deepseek": 2.8e9}[family])
    assert (2 * QUESTIONS + 30) * 5 < tokens < (2 * QUESTIONS + 30) * 60, "a question has so many"
    assert any("counted by the embedder's tokenizer" in line for line in plan.lines)
    assert found["minutes"] is None and any("not timed, for its weights are not at hand" in line for line in plan.lines)


def test_flops_are_those_of_plain_answers(config, tmp_path):
    """To 30 %: attention is left out."""
    write_tiny_checkpoint(tmp_path / "m", "olmoe", hidden_size=256, intermediate_size=512)
    model = load_moe_model(tmp_path / "m")
    asked = [*questions(QUESTIONS, "t"), *questions(30)]
    expected = sum(model.plain_work(model.encode(q)).flops for q in asked)
    assert planned(config(tmp_path / "m", ["base"])).values["forecast"]["flops"] == pytest.approx(expected, rel=0.3)


def test_minutes_are_those_of_its_flops_at_the_pace_of_some_answers_that_are_timed(config, tmp_path, monkeypatch):
    write_tiny_checkpoint(tmp_path / "m", "olmoe")
    clock = iter((10.0, 10.5))
    monkeypatch.setattr("c3po_adaptive.study.plan.perf_counter", lambda: next(clock))
    plan = planned(config(tmp_path / "m"))
    found = plan.values["forecast"]
    assert any("minutes here, as some were just timed; re-mixing takes longer" in line for line in plan.lines)
    eight = found["flops"] * 8 / (2 * QUESTIONS + 30)
    assert found["minutes"] == pytest.approx(found["flops"] / (eight / 0.5) / 60, rel=0.3), "questions are about alike"
    monkeypatch.setattr("c3po_adaptive.study.plan.SMALL", 1)
    assert planned(config(tmp_path / "m")).values["forecast"]["minutes"] is None


def test_a_pool_that_data_sets_share_counts_once(config, tmp_path):
    REAL["olmoe"].save_pretrained(tmp_path / "olmoe")
    one = config(tmp_path / "olmoe", ["base"])
    (asked,) = one.datasets
    two, alone = (
        one.model_copy(update={"datasets": datasets})
        for datasets in (
            (asked, asked.model_copy(update={"name": "again"})),
            (asked.model_copy(update={"references": ()}),),
        )
    )
    flops = [planned(each).values["forecast"]["flops"] for each in (alone, one, two)]
    assert flops[2] - flops[1] == pytest.approx(flops[0])


def test_a_run_that_was_begun_says_how_long_the_rest_takes(config, tmp_path):
    write_tiny_checkpoint(tmp_path / "m", "olmoe")
    study = config(tmp_path / "m")
    STUDY.run(study, tmp_path / "run")
    assert "left: 0 hours, as 24 of 24 answers are finished" in planned(study, tmp_path / "run").lines
    path = tmp_path / "run" / "records.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:18]))
    *_, left, base, ngd = planned(study, tmp_path / "run").lines
    assert "as 18 of 24 answers are finished" in left
    assert 0 < float(left.split()[1]) < 1
    assert (base.split(":")[0], ngd.split(":")[0]) == ("  base", "  ngd")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"arm":"base"' in line))
    *_, left, base, untimed = planned(study, tmp_path / "run").lines
    assert left.startswith("left: at least ") and untimed == "  not timed yet, and not counted: ngd"
    path.write_text("")
    with pytest.raises(DataError, match="differ in batch_size"):  # as by a run there
        planned(study.model_copy(update={"batch_size": 3}), tmp_path / "run")
    assert planned(study, tmp_path / "run").lines[-1] == "left: no answer is finished yet that says how long it took"


def test_a_model_that_does_not_fit_is_said(config, tmp_path, monkeypatch):
    write_tiny_checkpoint(tmp_path / "m", "olmoe")
    monkeypatch.setattr("c3po_adaptive.study.plan.available", lambda device: 1000)
    assert any("it does not fit" in line for line in planned(config(tmp_path / "m")).lines)


def test_what_is_no_configuration_is_refused_with_what_would_be_enough(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json, which is enough to plan"):
        model_config(str(tmp_path))
