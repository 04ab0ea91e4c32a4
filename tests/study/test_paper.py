"""``studies/paper``: each ablation runs on random checkpoints of both architectures, as it would on the real ones."""

import json
from pathlib import Path

import pytest
from records.made import plain
from study.configs import load_config

from c3po_adaptive.registry import default_registry
from c3po_adaptive.remixing.presets import PRESETS
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.data import read_data
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")

PAPER = Path(__file__).parents[2] / "studies" / "paper"
OTHERS = {"benchmarks", "same_set", "olmoe", "deepseek"}
"""Files that others take keys from; those of the embedded model alone are called merged."""
ABLATIONS = sorted(path.stem for path in PAPER.glob("*.yaml") if path.stem not in OTHERS and "merged" not in path.stem)
MODELS = {
    "olmoe": {"num_hidden_layers": 16, "num_experts": 64, "num_experts_per_tok": 8},
    "deepseek": {"num_hidden_layers": 28, "n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2},
}
"""The depth, the experts and the top-k of the real ones, a few numbers wide."""
SPLITS = {
    **dict.fromkeys(("arc_easy", "arc_challenge"), ("train", "validation", "test")),
    "openbookqa": ("train", "test"),
    **dict.fromkeys(("piqa", "hellaswag", "commonsense_qa", "social_iqa", "winogrande"), ("validation", "test")),
    "mmlu": ("dev", "validation", "test"),
    "boolq": ("validation", "test"),
    **dict.fromkeys(("sciq", "knowref", "bbh"), ("test",)),
}
QUICK = {("config", "olmoe"), ("experts", "deepseek")}
"""Ablations that every run of the tests runs; the others take five seconds each."""
WORDS = ("boat", "stone", "cork", "iron", "leaf", "glass")


def rows(name, split):
    for i in range(8):
        blank = "So _ was it" if name in ("winogrande", "knowref") else f"Which floats, {split}"
        choices = [WORDS[(i + k) % 6] for k in range(2 + i % 3)]
        text = f"{blank} {i}, {name}?"
        yield {"id": f"{name}.{split}.{i}", "task": name, "question": text, "choices": choices, "answer": i % 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with both checkpoints, and made-up questions under the benchmarks' names and splits."""
    folder = tmp_path_factory.mktemp("paper")
    for family, settings in MODELS.items():
        write_tiny_checkpoint(folder / family, family, **settings)
        config = folder / family / "tokenizer_config.json"
        chat = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": chat}))
    for name, splits in SPLITS.items():
        for split in splits:
            lines = [json.dumps(row) + "\n" for row in rows(name, split)]
            (folder / f"{name}.{split}.jsonl").write_text("".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        patch.setenv("C3PO_DATA", str(folder))
        yield folder


def small(place, family, *settings):
    """On a random checkpoint of a family, in what its file says beside: two questions of each set."""
    return [
        *(f"@{PAPER / family}.yaml", *settings),
        *(f"model={place / family}", "device=cpu", "dtype=float32"),
        *("datasets.*.limit=2", "datasets.*.references_limit=8"),
    ]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        pytest.param(name, family, marks=() if (name, family) in QUICK else pytest.mark.slow)
        for name in ABLATIONS
        for family in MODELS
    ],
)
def test_runs(place, tmp_path, name, family):
    config = load_config(PAPER / f"{name}.yaml", small(place, family))
    summary = plain(STUDY.run(config, tmp_path))
    assert not summary["failed"]
    assert {row["arm"] for row in summary["rows"]} == {*config.arms}
    assert {row["dataset"] for row in summary["rows"]} - {"all"} == {d.name for d in config.datasets}
    assert {row["n"] for row in summary["rows"] if row["dataset"] != "all"} == {2}


@pytest.mark.parametrize("name", ABLATIONS)
def test_its_setting_is_the_papers(name):
    """What an ablation does not vary is the preset's; ``format`` comes from the model's file: letters."""
    config = load_config(PAPER / f"{name}.yaml", [f"@{PAPER / 'olmoe.yaml'}"])
    paper = PRESETS["c3po"]
    assert {key: getattr(config, key) for key in paper.settings} == paper.settings
    own = config.arms[config.headline]
    assert {key: getattr(own, key) for key in paper.settings} == paper.settings
    registry = default_registry()
    for role, spec in paper.specs.items():
        assert registry.create(role, own.specs[role]) == registry.create(role, spec)
    assert config.format == "letter" or name == "token"


@pytest.mark.parametrize("family", MODELS)
def test_the_benchmarks_run_and_stand_beside_published_figures(place, tmp_path, family):
    alone = ("arms={base: {optimizer: none}}", "headline=null", "compare=[]")
    settings = small(place, family, f"@{PAPER / 'benchmarks.yaml'}", "format.chat=true", *alone)
    config = load_config(PAPER / "config.yaml", settings)
    summary = plain(STUDY.run(config, tmp_path))
    by_set = {row["dataset"]: row for row in summary["rows"]}
    assert by_set["mmlu"]["references"] == "bbh + boolq"
    assert by_set["winogrande"]["references"] == "knowref"
    assert by_set["all"]["references"] == "other sets"
    assert {row["format"] for row in summary["rows"]} == {"letters, in a chat"}
    page = (tmp_path / "report.html").read_text()
    assert page.count("<h3>Beside published figures: ") == 6
    assert f"published, {'OLMoE 7B' if family == 'olmoe' else 'DeepSeekMoE 16B'}" in page


@pytest.mark.parametrize("pairing", ["benchmarks", "same_set"])
def test_the_nine_benchmarks_learn_from_no_question_that_is_asked(place, pairing):
    config = load_config(PAPER / "config.yaml", [f"@{PAPER / pairing}.yaml"])
    assert len(config.datasets) == 9
    for name, asked in read_data(config).items():
        ids = [{q.id for q in part} for part in (asked.questions, asked.references)]
        assert not ids[0] & ids[1], name
        assert {q.task for q in asked.questions} == {name}
        assert ({q.task for q in asked.references} == {name}) is (pairing == "same_set")
        assert {q.split for q in asked.questions} == {"test"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name != "steps" else ()) for name in ABLATIONS]
)
def test_plan(place, name):
    settings = small(place, "olmoe")
    plan = STUDY.plan(load_config(PAPER / f"{name}.yaml", settings), default_registry())
    assert [one["questions"] for one in plan.values["datasets"]] == [2] * len(plan.values["datasets"])
