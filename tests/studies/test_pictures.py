"""The study of pictures: its questions, and what its page says of the answers that are kept."""

import json
import random
from types import SimpleNamespace

import numpy as np
from c3po_compare import answers
from pictures import make, run
from records.made import answered

from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import Records, read_records
from c3po_adaptive.records.parquet import read_parquet


def filled(image):
    """Cells of the picture in which something is drawn."""
    pixels = np.asarray(image).astype(int)
    drawn = np.abs(pixels - pixels[0, 0]).sum(-1) > 0
    cells = drawn.reshape(make.SIDE, make.CELL, make.SIDE, make.CELL).any((1, 3))
    return int(cells.sum())


def test_the_page_says_what_each_kind_came_to():
    rng = random.Random(f"{make.SEED} test")
    kinds = {q.id: q.task for q in (make.question(rng, f"test-{i}") for i in range(make.PARTS["test"]))}
    table = answers(*(run.RESULTS / f"{model}.parquet" for model in run.ASKED))
    assert table.groupby("model").question.nunique().to_dict() == run.ASKED
    broken = table[table.model == "broken"]
    right = 100 * broken.groupby(["arm", broken.question.map(kinds)]).correct.mean().unstack()
    page = (run.RESULTS.parent / "README.md").read_text(encoding="utf-8")
    base = {kind: f"{right[kind]['base']:.0f} %" for kind in make.KINDS}
    assert "leave color right ({color}), and lose shape ({shape}) and count ({count})".format(**base) in page
    assert right["color"]["constant"] == 100 and "color stays at 100 %" in page
    assert all(right[kind][arm] > right[kind]["base"] for arm in ("nearest", "constant") for kind in ("shape", "count"))


def test_a_picture_shows_what_is_right_of_each_kind():
    rng = random.Random(0)
    for _ in range(8):
        image, right = make.drawn(rng)
        assert right.keys() == make.KINDS.keys()
        assert filled(image) == make.COUNTS.index(right["count"]) + 1


def test_questions_are_the_same_when_made_again_and_others_in_each_part():
    first, again, other = (make.question(random.Random(seed), "a") for seed in ("0 test", "0 test", "0 validation"))
    assert first.row() == again.row()
    assert np.array_equal(*(np.asarray(q.images[0].source) for q in (first, again)))
    assert not np.array_equal(*(np.asarray(q.images[0].source) for q in (first, other)))


def test_what_was_chosen_is_one_of_the_settings_that_were_tried():
    chosen = json.loads((run.RESULTS / "chosen.json").read_text(encoding="utf-8"))
    for settings in chosen.values():
        assert settings["rate"] in run.RATES and settings["scope"] in run.SCOPES
    assert chosen["nearest"]["length"] in run.LENGTHS


def test_answers_by_which_settings_are_chosen_are_kept(tmp_path, monkeypatch):
    best = {"nearest 3", "constant 1"}

    def asked(made, model, part, arms, **more):
        made.mkdir()
        rows = Records(made, AnswerRecord)
        for arm in arms:
            rows.append(answered(arm=arm, id="1", split=part, correct=arm in best))
        return made

    def load_run(folder):
        return SimpleNamespace(
            table=[{"arm": r.arm, "accuracy": r.correct} for r in read_records(folder, AnswerRecord)]
        )

    monkeypatch.setattr(run, "asked", asked)
    monkeypatch.setattr(run, "load_run", load_run)
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    found = run.chosen(tmp_path / "made")
    assert found == {"nearest": {"rate": 5, "length": 0.3, "scope": "all"}, "constant": {"rate": 5, "scope": "all"}}
    kept = list(read_parquet(tmp_path / "validation.parquet"))
    assert {r.arm for r in kept if r.correct} == best
    assert {r.split for r in kept} == {"validation"}
