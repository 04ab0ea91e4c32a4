"""The speed study, run on a tiny model: its rows, its resuming, its page."""

import json
from xml.etree import ElementTree

import pytest
from speed.draw import page as drawn
from speed.rows import TimedCase
from speed.run import run_speed
from speed.turns import in_turns, over
from study.configs import SPEED, load_config
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import SettingError
from c3po_adaptive.tasks.question_files import demo_questions

CONFIG = """
kind: speed
repeats: 1
cases:
  ngd-letter: {shots: 1, model: tiny, batch: 4, references: 12}
  amortized: {optimizer: amortized-ngd, shots: 1, model: tiny, batch: 4, references: 12}
  textbook: {shots: 1, model: tiny, batch: 4, references: 12, textbook: true}
  cold: {format: cloze, optimizer: {name: ngd, steps: 2}, model: tiny, batch: 4, references: 12, warm: false}
  nearest: {preset: nearest, format: cloze, model: tiny, batch: 4, references: 12}
  everywhere: {scope: all, shots: 1, model: tiny, batch: 4, references: 12}
curves:
  steps: {over: optimizer.steps, values: [1, 2], case: {model: tiny, batch: 4, references: 12, optimizer: {name: ngd}}}
searches:
  small: {retriever: faiss-ivf, references: 12000, queries: 10}
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speed.search.demo_questions", lambda split: demo_questions(split)[:20])
        return run_speed(load_config(file), file.parent / "run")


def test_rows_say_what_was_measured(summary):
    rows = {row.case: row for row in summary.rows}
    assert list(rows) == ["ngd-letter", "amortized", "textbook", "cold", "nearest", "everywhere", "steps=1", "steps=2"]
    assert rows["steps=1"].flops_ratio < rows["steps=2"].flops_ratio
    for row in rows.values():
        assert row.ratio_min <= row.ratio <= row.ratio_max
        assert (row.n, row.model) == (4, "tiny")
    assert 1 < rows["amortized"].flops_ratio < rows["ngd-letter"].flops_ratio
    assert 2 < rows["nearest"].flops_ratio < 0.9 * rows["cold"].flops_ratio, "one step, not ten; no prompts"
    assert rows["everywhere"].flops_ratio > 2 * rows["ngd-letter"].flops_ratio, "neighbours' prompts in each step"
    assert rows["ngd-letter"].textbook_over_this > 0, "seconds, of which nothing is said here"
    assert rows["textbook"].flops_ratio > 2 * rows["ngd-letter"].flops_ratio
    assert rows["cold"].textbook_over_this is None, "another format"
    assert rows["ngd-letter"].phases["references"] < rows["cold"].phases["references"]


def test_searches_say_what_was_found(summary):
    (row,) = summary.searches
    assert (row.search, row.references, row.dimensions, row.n) == ("small", 12000, 384, 10)
    assert row.recall >= 0.9
    assert row.milliseconds > 0


def test_runs_in_parts(file, summary, tmp_path, monkeypatch):
    numbers = "ratio ratio_min ratio_max flops_ratio over_flops n prompt_tokens plain_seconds added_seconds"
    row = {"model": "tiny", "textbook": False, "compared": []} | dict.fromkeys(numbers.split(), 1)
    monkeypatch.setattr("speed.run._row", lambda name, *rest: TimedCase(case=name, **row))
    for name in ("page", "picture"):
        monkeypatch.setattr(f"speed.run.{name}", lambda *given: "")
    first = run_speed(load_config(file, ["only=[cold]"]), tmp_path)
    assert [row.case for row in first.rows] == ["cold"]
    second = run_speed(load_config(file, ["only=[steps]"]), tmp_path)
    assert [row.case for row in second.rows] == ["cold", "steps=1", "steps=2"]
    assert second.searches == ()
    with pytest.raises(SettingError, match="only to name some of"):
        load_config(file, ["only=[warm]"])


def test_page_shows_every_case(file, summary):
    page = (file.parent / "run" / "report.html").read_text()
    assert page == drawn(summary, {"model": None, "command": None})
    assert "made from Python" in page
    assert all(f"<td>{name}</td>" in page for name in [*(row.case for row in summary.rows), "small"])
    assert page.count("<svg") == 2, "cases, and one curve"
    picture = ElementTree.parse(file.parent / "run" / "ratios.svg")
    assert "ngd-letter" in "".join(picture.getroot().itertext())


def test_command_runs_no_finished_case_again(file, summary, monkeypatch):
    monkeypatch.setattr("speed.run._Setup", None)
    out = file.parent / "run"
    done = CliRunner().invoke(app, ["study", "run", str(file), "--out", str(out), "--plugin", str(SPEED)])
    assert done.exit_code == 0, done.output
    assert json.loads((out / "summary.json").read_text()) == summary.model_dump(mode="json")
    assert "ngd-letter" in done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["cases.ngd-letter.batch=0"], "a speed study, got .*batch"),
        (["cases.nearest.optimizer=ngd"], "a speed study, got .*nearest and .'optimizer'"),
        (["cases.nearest.scope=all"], "a speed study, got .*nearest and .'scope'"),
        (["repeats=none"], "a speed study, got repeats"),
        (["cases.ngd-letter.k=3"], "--set with a key that there is, .*no 'k' in cases.ngd-letter"),
        (["curves.steps.over=hue"], "a speed study, got .*hue"),
    ],
)
def test_settings_are_checked(file, settings, message):
    with pytest.raises(SettingError, match=f"Expected {message}"):
        load_config(file, settings)


def test_ways_take_turns_and_the_first_is_not_counted():
    asked = []
    seconds, found = in_turns({name: lambda name=name: asked.append(name) or len(asked) for name in "ab"}, 2)
    assert "".join(asked) == "ab" + "ba" + "ab" and found == {"a": 5, "b": 6}
    assert [len(took) for took in seconds.values()] == [2, 2]
    assert over([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == {"ratio": 2.0, "ratio_min": 1.0, "ratio_max": 3.0}
