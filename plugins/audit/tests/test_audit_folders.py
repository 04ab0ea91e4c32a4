"""An audit's folder with what has no business there: refused with our own error, and what was on disk stays."""

import json

import pytest
from c3po_audit import audit, draw_report, leverage_line, summary_of
from hostile.doors import command, is_refused, untouched
from models.families.checks import model_of
from routing.toys import questions

from c3po_adaptive.storage.run_folder import claim

ASKED = questions(3)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr("c3po_audit.plots.svg", lambda figure, label: "<svg></svg>")


@pytest.fixture(scope="module")
def model():
    return model_of("olmoe", num_hidden_layers=2)


@pytest.fixture
def folder(model, tmp_path):
    audit(model, ASKED, tmp_path / "run", rates=[0.1])
    return tmp_path / "run"


def altered(path, **changes):
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    path.write_text("\n".join([json.dumps(json.loads(lines[0]) | changes), *lines[1:]]) + "\n")


def test_rows_of_something_else(model, folder):
    for changes in ({"scores": "many"}, {"used": None}, {"bans": [["x"]]}, {"cost": 1}, {"schema_version": 99}):
        kept = (folder / "records.jsonl").read_text()
        altered(folder / "records.jsonl", **changes)
        with untouched(folder):
            is_refused(lambda: audit(model, ASKED, folder, rates=[0.1]))
        (folder / "records.jsonl").write_text(kept)
    audit(model, ASKED, folder, rates=[0.1])


def test_a_row_of_a_question_that_is_not_asked(model, folder):
    altered(folder / "records.jsonl", id="another")
    with untouched(folder):
        is_refused(lambda: audit(model, ASKED, folder, rates=[0.1]))


def test_a_summary_of_something_else(folder):
    for changes in ({"base": None}, {"effects": {}}, {"layers": 1}, {"sentence": 7}, {"schema_version": 99}):
        kept = (folder / "summary.json").read_text()
        altered(folder / "summary.json", **changes)
        with untouched(folder):
            is_refused(lambda: draw_report(folder))
            is_refused(lambda: leverage_line(summary_of(folder)))
            command("report", folder)
        (folder / "summary.json").write_text(kept)


def test_a_half_written_row_is_asked_again(model, folder):
    whole = (folder / "records.jsonl").read_bytes()
    (folder / "records.jsonl").write_bytes(whole[:-20])
    before = summary_of(folder)
    assert audit(model, ASKED, folder, rates=[0.1]).base == before.base


def test_the_folder_of_another_run(model, tmp_path):
    claim(tmp_path / "run", {"kind": "comparison"})
    with untouched(tmp_path):
        is_refused(lambda: audit(model, ASKED, tmp_path / "run"))


def test_two_audits_are_not_put_side_by_side(folder):
    with untouched(folder):
        command("report", folder, folder)
        command("report", folder, "--out", folder.parent / "out")
    assert not (folder.parent / "out").exists()
