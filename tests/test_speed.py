"""The speed study, run on a tiny model: its rows, its resuming, its page."""

import json

import pytest
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.config import load_speed_config
from c3po_adaptive.errors import SettingError
from c3po_adaptive.report.speed import draw
from c3po_adaptive.speed import run_speed

CONFIG = """
kind: speed
repeats: 1
cases:
  ngd-letter: {shots: 1, model: tiny, batch: 4, references: 12}
  amortised: {optimizer: amortised-ngd, shots: 1, model: tiny, batch: 4, references: 12}
  textbook: {shots: 1, model: tiny, batch: 4, references: 12, textbook: true}
  cold: {format: cloze, optimizer: {name: ngd, steps: 2}, model: tiny, batch: 4, references: 12, warm: false}
models:
  tiny: {family: olmoe, dtype: float32, settings: {vocab_size: 49152, num_hidden_layers: 6, num_experts: 24,
         initializer_range: 0.25, max_position_embeddings: 2048}}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("speed") / "config.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def summary(file, dense_weights):
    return run_speed(load_speed_config(file), file.parent / "run")


def test_rows_say_what_was_measured(summary):
    rows = {row["case"]: row for row in summary["rows"]}
    assert list(rows) == ["ngd-letter", "amortised", "textbook", "cold"]
    for row in rows.values():
        assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
        assert (row["n"], row["model"]) == (4, "tiny")
    assert 1 < rows["amortised"]["flops_ratio"] < rows["ngd-letter"]["flops_ratio"]
    assert rows["cold"]["flops_ratio"] > 2, "three neighbours' prompts count"
    assert rows["ngd-letter"]["textbook_over_this"] > 1
    assert rows["textbook"]["flops_ratio"] > 2 * rows["ngd-letter"]["flops_ratio"]
    assert "textbook_over_this" not in rows["cold"], "another format"
    assert rows["ngd-letter"]["phases"]["references"] < rows["cold"]["phases"]["references"]


def test_finished_cases_are_not_run_again(file, summary, monkeypatch):
    monkeypatch.setattr("c3po_adaptive.speed._Setup", None)
    assert run_speed(load_speed_config(file), file.parent / "run") == summary


def test_page_shows_every_case(file, summary):
    page = (file.parent / "run" / "report.html").read_text()
    assert page == draw(summary)
    assert all(f"<td>{row['case']}</td>" in page for row in summary["rows"])
    assert "<svg" in page


def test_command(file, summary):
    done = CliRunner().invoke(app, ["study", "run", str(file), "--out", str(file.parent / "run")])
    assert done.exit_code == 0, done.output
    assert json.loads((file.parent / "run" / "summary.json").read_text()) == summary
    assert "ngd-letter" in done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [(["cases.ngd-letter.batch=0"], "batch"), (["repeats=none"], "repeats"), (["cases.ngd-letter.k=3"], "k")],
)
def test_settings_are_checked(file, settings, message):
    with pytest.raises(SettingError, match=rf"Expected a speed study .*{message}"):
        load_speed_config(file, settings)
