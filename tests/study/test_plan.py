"""What a study takes, told before it runs: held against runs, and from a configuration alone."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from routing.toys import questions
from study.configs import parse_config, written
from transformers import OlmoeConfig

import c3po_adaptive.models.routed as routed
import c3po_adaptive.study.comparison.study as planning
from c3po_adaptive.errors import ModelError, SettingError, UnknownNameError
from c3po_adaptive.models.deepseek import DeepseekConfig
from c3po_adaptive.models.loading import load_moe_model, model_config
from c3po_adaptive.models.scaled import narrow, ratio_of, short
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.comparison.run import evaluate
from c3po_adaptive.study.foresee import foresee
from c3po_adaptive.study.hardware import SHEETS, Hardware, Sheet
from c3po_adaptive.study.pace import _drawn, measured_pace
from c3po_adaptive.testing import tiny_tokenizer, write_tiny_checkpoint

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
SCALED = {
    "olmoe": {"num_hidden_layers": 16, "num_experts": 64, "num_experts_per_tok": 8},
    "deepseek": {"num_hidden_layers": 28, "n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2},
}
QUESTIONS = 12
ARMS = {
    "base": {"optimizer": "none"},
    "ngd": {"optimizer": {"name": "ngd", "steps": 2}},
    "amortized": {"optimizer": "amortized-ngd"},
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


def planned(config, hardware="h100", share=0.3):
    return STUDY.plan(config, new_registry(), Hardware(hardware, share))


@pytest.mark.parametrize("family", REAL)
def test_a_configuration_without_weights_or_tokenizer_is_enough(config, tmp_path, family):
    REAL[family].save_pretrained(tmp_path / family)
    plan = planned(config(tmp_path / family))
    found = plan.values["forecast"]
    assert found["parameters"] == pytest.approx({"olmoe": 6.92e9, "deepseek": 16.38e9}[family], rel=1e-3)
    assert found["memory"]["weights"] == 2 * found["parameters"]
    assert found["memory"]["weights"] < found["memory"]["total"] < found["memory"]["room"] == 80e9
    tokens = found["flops"]["by_arm"]["base"] / (2 * {"olmoe": 1.28e9, "deepseek": 2.8e9}[family])
    assert QUESTIONS * 5 < tokens < QUESTIONS * 60, "a question has so many"
    assert found["hours"] > found["references_hours"] > 0
    assert any("counted by the embedder's tokenizer" in line for line in plan.lines)
    assert any("0.3 of its data sheet's 989 TFLOP/s and 3.35 TB/s" in line for line in plan.lines)


@pytest.mark.parametrize("family", ["olmoe", pytest.param("deepseek", marks=pytest.mark.slow)])
def test_flops_and_disk_are_those_of_a_run(config, tmp_path, family):
    """To 30 %: few of the questions are rehearsed. Not a reference is right more often than by chance: all count."""
    write_tiny_checkpoint(tmp_path / family, family, **SCALED[family])
    study = config(tmp_path / family, ARMS, learn_from="all", pathways=False)
    found = planned(study).values["forecast"]
    evaluate(study, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    for arm, flops in found["flops"]["by_arm"].items():
        assert flops == pytest.approx(sum(r["flops"]["total"] for r in rows if r["arm"] == arm), rel=0.3), arm
    plain = load_moe_model(study.model)
    once = (
        max(r["once"] for r in rows)
        * sum(plain.plain_work(plain.encode(q)).flops for q in questions(QUESTIONS, "t"))
        / QUESTIONS
    )
    assert found["flops"]["references"] == pytest.approx(once, rel=0.3)
    written = [sum(f.stat().st_size for f in (tmp_path / part).rglob("*") if f.is_file()) for part in ("run", "cache")]
    assert found["disk"]["run"] == pytest.approx(written[0], rel=0.3)
    assert found["disk"]["references"] == pytest.approx(written[1], rel=0.3)


@pytest.mark.parametrize("arms", [("base",), ("base", "amortized")], ids=" and ".join)
def test_a_pool_that_data_sets_share_counts_once(config, tmp_path, arms):
    REAL["olmoe"].save_pretrained(tmp_path / "olmoe")
    one = config(tmp_path / "olmoe", arms, learn_from="all")
    (asked,) = one.datasets
    two = one.model_copy(update={"datasets": (asked, asked.model_copy(update={"name": "again"}))})
    flops = [planned(each).values["forecast"]["flops"] for each in (one, two)]
    assert flops[1]["references"] == flops[0]["references"] > 0
    assert flops[1]["by_arm"]["base"] == pytest.approx(2 * flops[0]["by_arm"]["base"])


def test_a_narrow_model_counts_as_the_real_one(tmp_path):
    write_tiny_checkpoint(tmp_path, "deepseek", **SCALED["deepseek"], hidden_size=64, vocab_size=300)
    real, small = load_moe_model(tmp_path), narrow(model_config(str(tmp_path)), tiny_tokenizer())
    assert small.flops == real.flops
    assert small.layers == real.layers
    assert sum(p.numel() for p in small.model.parameters()) < sum(p.numel() for p in real.model.parameters())
    prompts = [real.encode(q) for q in questions(3)]
    states = [model.prefill(prompts, keep=False) for model in (small, real)]
    assert [s.work for s in states[0]] == [s.work for s in states[1]]
    ratio = ratio_of(real.model.config, small, torch.float32)
    for one, other in zip(*states, strict=True):
        assert ratio.bytes_of(one) == pytest.approx(other.nbytes, rel=0.02)


def test_a_short_model_is_run_at_some_pace():
    model = short(REAL_BUT_NARROW, tiny_tokenizer(), torch.float32, "cpu", tuple(range(16)))
    assert model.layers == (0, 1)
    states = model.prefill(_drawn([model.encode(q) for q in questions(6)], 128), keep=False)
    used = torch.stack([s.own[0] for s in states]) > 0
    assert len(used.any(0).nonzero()) > model.sites[0].top_k, "tokens go to different experts"
    pace = measured_pace(model, [s.prompt for s in states], "here")
    assert pace.prompts > 0
    assert pace.tails > 0


REAL_BUT_NARROW = OlmoeConfig(hidden_size=64, intermediate_size=32, vocab_size=128, num_attention_heads=4)


def test_where_it_is_measured(config, tmp_path):
    write_tiny_checkpoint(tmp_path / "m", "olmoe", **SCALED["olmoe"])
    plan = planned(config(tmp_path / "m"), "measured")
    assert plan.values["forecast"]["hours"] > 0
    assert any("measured here, on cpu" in line for line in plan.lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is here")
def test_a_device_that_is_not_here_is_named_by_its_data_sheet(config, tmp_path):
    write_tiny_checkpoint(tmp_path / "m", "olmoe", **SCALED["olmoe"])
    plan = planned(config(tmp_path / "m", device="cuda"), "measured")
    assert plan.values["forecast"]["hours"] is None
    assert any("cuda is not here; --hardware NAME takes a data sheet's: h200, h100" in line for line in plan.lines)


def test_twice_the_share_takes_half_the_hours_where_the_device_is_the_limit(config, tmp_path):
    REAL["olmoe"].save_pretrained(tmp_path / "olmoe")
    study = config(tmp_path / "olmoe")
    paces = [planned(study, "l4", share).values["forecast"]["pace"] for share in (0.2, 0.4)]
    for kind in ("prompts", "tails"):
        assert paces[1][kind] == pytest.approx(2 * paces[0][kind])
    assert paces[0]["prompts"] <= 0.2 * SHEETS["l4"].half


def test_a_peak_is_that_of_the_dtype():
    sheet = Sheet("x", 100.0, 10.0, 1.0, 1.0)
    assert [sheet.peak(dtype) for dtype in (torch.bfloat16, torch.float16, torch.float32)] == [100, 100, 10]
    assert all(replace(s).half > s.single > 0 for s in SHEETS.values())


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [(("h1000", 0.3), UnknownNameError, "h100"), (("h100", 0.0), SettingError, "above 0")],
)
def test_hardware_that_cannot_be(given, kind, said):
    with pytest.raises(kind, match=said):
        Hardware(*given)


def test_what_is_no_configuration_is_refused_with_what_would_be_enough(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json, which is enough to plan"):
        model_config(str(tmp_path))


def test_prompts_are_found_again_as_far_as_there_is_room_for_them(config, tmp_path, monkeypatch):
    """Held against how many prompts a run runs that may keep none, half, or all of those it finds again."""
    write_tiny_checkpoint(tmp_path / "m", "olmoe", **{**SCALED["olmoe"], "num_hidden_layers": 5})
    study = config(tmp_path / "m", ARMS, learn_from="all")
    forecasts = []
    monkeypatch.setattr(planning, "foresee", lambda *given: forecasts.append(foresee(*given)) or forecasts[-1])
    planned(study, "h100")
    (forecast,) = forecasts
    prefilled = routed.prefill
    ran = []

    def run(model, sites, prompts, *given):
        ran[-1] += len(prompts)
        return prefilled(model, sites, prompts, *given)

    monkeypatch.setattr(routed, "prefill", run)
    for share in (0.0, 0.5, 2.0):
        monkeypatch.setattr(routed, "available", lambda _, room=share * forecast.memory.wanted: int(4 * room))
        monkeypatch.setenv("C3PO_CACHE", str(tmp_path / f"cache-{share}"))
        ran.append(0)
        evaluate(study, tmp_path / f"run-{share}")
    none, half, every = ran
    kept = [replace(forecast.memory, kept=share * forecast.memory.wanted) for share in (0.0, 0.5, 2.0)]
    assert every < none / 2
    assert [memory.found_again for memory in kept] == pytest.approx([0.0, (none - half) / (none - every), 1.0], abs=0.1)
    slow = replace(forecast.pace, prompts=1e6)  # so that prompts are what takes long
    hours = [replace(forecast, memory=memory, pace=slow).hours for memory in kept]
    assert hours[0] > hours[1] > hours[2], "what is not found again is run again"


@pytest.mark.slow
def test_memory_is_that_of_a_run(tmp_path):
    """Of a model that is large beside what any process takes."""
    code = (
        "import sys; sys.path.insert(0, 'studies/speed'); import plan, pathlib, json;"
        "print(json.dumps(plan.beside(pathlib.Path(sys.argv[1]), 'olmoe', 'letter', 0)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    pair = json.loads(done.stdout.splitlines()[-1])
    for key in ("memory", "answers", "disk"):
        assert pair["planned"][key] == pytest.approx(pair["run"][key], rel=0.3), key
