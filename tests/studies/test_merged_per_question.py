"""What tells a question's own change from its kind's: kinds with inner variety, without references, just come."""

import json
from pathlib import Path

import pytest
import yaml
from c3po_bed.kinds import KINDS
from c3po_compare.records import ComparedSummary
from merged import per_question
from merged.arms_page import points
from merged.choose import asked_next
from studies.test_merged_choice import CONFIG
from study.configs import parse_config
from typer.testing import CliRunner

from c3po_adaptive.study.data import read_data

KINDS_ASKED = per_question.kinds_of("fitted")


@pytest.fixture
def written(tmp_path):
    """The three configurations, of questions that say whose they are."""
    for kind in (*KINDS_ASKED, "sst5_stars", "agnews_topic"):
        for split, number in (("fresh", 25), ("references", 50)):
            alike = kind == "agnews_topic" and split == "fresh"
            rows = [
                json.dumps({"id": f"{kind}/{split[0]}{n}", "task": kind, "question": f"{kind} {split} {n}?"}
                           | {"choices": ["a", "b"], "answer": 0 if alike else n % 2})
                for n in range(number)
            ]  # fmt: skip
            (tmp_path / f"{kind}.{split}.jsonl").write_text("\n".join(rows) + "\n")
    settings = {name.partition(" / ")[0]: name.partition(" / ")[2] for name in CONFIG["arms"]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(asked_next(CONFIG, settings, "demo:test")))
    arguments = [str(tmp_path / "test.yaml"), "--pool", str(tmp_path), "--out", str(tmp_path)]
    done = CliRunner().invoke(per_question.app, arguments)
    assert done.exit_code == 0, done.output
    chosen = yaml.safe_load((tmp_path / "test.yaml").read_text())["arms"]
    raw = {name: yaml.safe_load((tmp_path / f"{name}.yaml").read_text()) for name in ("varied", "between", "stream")}
    assert all(arm == chosen[name] for config in raw.values() for name, arm in config["arms"].items())
    return {name: (parse_config(config), config) for name, config in raw.items()}


def test_each_asks_what_it_says(written):
    data = {name: read_data(config) for name, (config, _) in written.items()}
    (varied,) = data["varied"].values()
    assert {q.subject for q in varied.questions} == {KINDS[kind].source.name for kind in KINDS_ASKED}
    assert len({q.subject for q in varied.questions}) < len({q.task for q in varied.questions}) == 21
    (between,) = data["between"].values()
    assert [q.task for q in between.questions] == ["sst5_stars"] * 24, "others have one right answer"
    assert not {q.task for q in between.questions} & {q.task for q in between.references}
    assert len(data["stream"]) == 3
    for part in data["stream"].values():
        new = {q.task for q in part.questions}
        counts = {kind: sum(q.task == kind for q in part.references) for kind in KINDS_ASKED}
        assert len(new) == 7 and all(number == (5 if kind in new else 40) for kind, number in counts.items())
    asked = [q.id for name in ("varied", "stream") for part in data[name].values() for q in part.questions]
    assert len(asked) == 420 and {int(id.partition("/f")[2]) for id in asked} == set(range(5, 15)), "not the last ten"


def test_arms_are_as_they_were_chosen(written):
    for name, (_, raw) in written.items():
        assert ("one a kind, told" in raw["arms"]) == (name != "between"), "which has no references of its kinds"
    protocol = yaml.safe_load(Path(per_question.__file__).with_name("per_question_protocol.yaml").read_text())
    for asked in protocol["comparisons"]:
        rivals = asked["b"] if isinstance(asked["b"], list) else [asked["b"]]
        assert {asked["a"], *rivals} <= {*written[asked["group"]][1]["arms"]}


def test_the_page_tells_every_comparison_and_what_fewer_labels_win():
    folder = Path(per_question.__file__).parent
    page = (folder / "README.md").read_text(encoding="utf-8")
    asked, labels = (
        ComparedSummary.model_validate_json((folder / "results" / part / "compared/summary.json").read_bytes())
        for part in ("per_question", "labels")
    )
    assert all(f" | {one.b} | {points(one)} |\n" in page for one in asked.comparisons)
    right = {(row.on, row.arm): row.accuracy for row in labels.rows}
    for on, number in (("one", 1), ("three", 3), ("ten", 10)):
        arms = ("each", "one a cluster", "repaired", "lora", "router tuning")
        cells = [f" {right[on, arm] - right[on, 'base']:+.1f} " if (on, arm) in right else " " for arm in arms]
        assert f"| {number} |{'|'.join(cells)}|\n" in page
