"""Known faults: what a run answered is kept in two small files, of which its summary is made again."""

import json
import random
from pathlib import Path

import pytest
from c3po_faults.answer import FaultAnswer
from c3po_faults.config import FaultsConfig
from c3po_faults.summary import summarize
from faults.keep import app, kept
from records.made import answered, plain
from typer.testing import CliRunner

RESULTS = Path(__file__).parents[2] / "studies" / "faults" / "results"
KNOWN = json.loads((RESULTS / "summary.json").read_text(encoding="utf-8"))
CONFIG, LAYERS = FaultsConfig.model_validate(KNOWN["config"]), KNOWN["decoder_layers"]


def answers(questions):
    """Of every arm on each model, with numbers of five digits."""
    draw = random.Random(0)
    for arm, (cell, _) in CONFIG.parts.items():
        broken = cell != "sound"
        for n in range(questions):
            record = answered(arm=arm, dataset="learned", id=f"q{n}", correct=draw.random() < 0.6, layers=LAYERS[:8])
            yield FaultAnswer(
                **dict(record),
                concerned=broken,
                cosine=float(f"{draw.uniform(-1, 1):.5g}") if broken else None,
                expert_precision=0.5 if broken else None,
                expert_recall=1 / 3 if broken else None,
                scored=tuple(float(f"{draw.random():.5g}") for _ in LAYERS),
            )


def numbers(found):
    """Of a summary, with where they stand."""
    parts = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, value in parts:
        if isinstance(value, float):
            yield (key,), value
        yield from (((key, *place), number) for place, number in numbers(value))


def test_a_run_is_kept_and_its_summary_is_made_of_what_is_kept(tmp_path):
    run, out = tmp_path / "run", tmp_path / "kept"
    run.mkdir()
    records = list(answers(6))
    found = summarize(records, CONFIG, LAYERS)
    (run / "records.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    (run / "summary.json").write_text(found.model_dump_json())
    done = CliRunner().invoke(app, [str(run), "--out", str(out)])
    assert done.exit_code == 0 and "answers.parquet, found.parquet, summary.json" in done.output, done.output
    again = kept(out, out / "summary.json")
    assert plain(again) == json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert dict(numbers(plain(again))) == pytest.approx(dict(numbers(plain(found))), abs=1e-6)
    assert any(row.auc for row in again.rows) and any(row.cosine for row in again.rows)


@pytest.mark.parametrize("folder", [RESULTS, RESULTS / "bounds"], ids=["config", "bounds"])
def test_the_summary_is_made_of_the_kept_answers(folder):
    known = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert dict(numbers(plain(kept(folder, folder / "summary.json")))) == pytest.approx(dict(numbers(known)))


ON_THE_PAGE = {
    "area under the curve of the broken layers: `misrouted`": ("chosen", "step", "auc"),
    "… over the sound model's": ("chosen", "step", "auc_rise"),
    "… of the neighbours' kept gradients": ("attributed", "step", "auc"),
    "a step in the eight layers that `misrouted` chose, share won back": ("chosen", "step", "won_back"),
    "… that the kept gradients chose": ("attributed", "step", "won_back"),
    "… in eight layers at random": ("random", "step", "won_back"),
    "… in the last eight layers": ("last", "step", "won_back"),
    "as long a change in random directions, in chosen layers": ("chosen", "random", "won_back"),
    "… share of the loss in reach": ("chosen", "random", "loss_won_back_in_reach"),
}
"""Of a row of the page's table: selector, optimizer, and what of the summary's row."""


def told(row, name, sign=""):
    return f"{row[name]:{sign}.2f} [{row[f'{name}_ci_low']:.2f}, {row[f'{name}_ci_high']:.2f}]".replace("-", "−")


def test_the_page_tells_what_the_kept_answers_say():
    page = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    shown = [cells for cells in lines if cells[0].strip()]
    broken = {(row["fault"], row["selector"], row["optimizer"]): row for row in KNOWN["rows"] if row["dose"] == 1}
    rows = [cells for cells in shown if cells[0] in ON_THE_PAGE]
    assert len(rows) == len(ON_THE_PAGE) + 1  # over the sound model's: of both scores
    selector = None
    for first, *cells in rows:
        own, optimizer, name = ON_THE_PAGE[first]
        selector = selector if name == "auc_rise" else own
        sign = "+" if name == "auc_rise" else ""
        assert cells == [told(broken[fault, selector, optimizer], name, sign) for fault in ("early", "spread")], first
