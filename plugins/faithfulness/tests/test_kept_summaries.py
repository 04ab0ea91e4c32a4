"""What is drawn again is held against what was kept."""

import json
import os
from pathlib import Path

import pytest
from c3po_faithfulness.study import Faithfulness
from hostile.doors import is_refused, passed

from c3po_adaptive.errors import C3POError

KEPT = Path(__file__).parents[3] / "studies" / "faithfulness" / "results" / "misrouted.json"
WRONG = (None, "x", -1, 10**30, float("nan"), [], [None], [[[1]]], {}, {"x": None}, "\ud800", True)
WHOLE = json.loads(KEPT.read_text())
SUMMARY = WHOLE | {part: WHOLE[part][:3] for part in ("rows", "places")}
"""With fewer scores, whose pictures are drawn sooner."""
STUDY = Faithfulness()


def draws(folder, summary):
    (folder / "summary.json").write_text(json.dumps(summary))
    return passed(lambda: STUDY.draw_report(folder))


@pytest.mark.parametrize("key", SUMMARY)
def test_wrong_values_and_missing_ones(tmp_path, monkeypatch, key):
    monkeypatch.setattr("c3po_faithfulness.page.svg", lambda figure, label: "")  # what pictures are made of is spoilt
    for value in WRONG:
        draws(tmp_path, SUMMARY | {key: value})
    missing = {k: v for k, v in SUMMARY.items() if k != key}
    if key not in ("kind", "hashes", "schema_version", "counted_once"):
        is_refused(lambda: STUDY.draw_report((tmp_path / "summary.json").write_text(json.dumps(missing)) and tmp_path))


@pytest.mark.parametrize("part", ["rows", "places", "layers"])
def test_rows(tmp_path, part):
    first, *rest = SUMMARY[part]
    for key in first:
        for value in WRONG[:9]:
            draws(tmp_path, SUMMARY | {part: [first | {key: value}, *rest[:2]]})
        draws(tmp_path, SUMMARY | {part: [{k: v for k, v in first.items() if k != key}, *rest[:2]]})


def test_as_it_is_it_is_drawn(tmp_path):
    for summary in (WHOLE, SUMMARY):
        assert not isinstance(draws(tmp_path, summary), C3POError)


def test_a_folder_that_turned_read_only(tmp_path, monkeypatch):
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    is_refused(lambda: STUDY.draw_report(tmp_path))
