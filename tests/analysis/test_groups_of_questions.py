"""Gains by kind of question, and how often answers of a confidence are right."""

import math

import pytest
from records.made import answered

from c3po_adaptive.analysis.calibration import calibration_error, reliability
from c3po_adaptive.analysis.gain_by_kind import gain_by_kind
from c3po_adaptive.analysis.statistics import compare


def record(arm, id_, correct, dataset="arc", kind="facts", confidence=0.75):
    other = math.log((1 - confidence) / confidence)
    known = {"dataset": dataset, "subject": kind, "scores": [0.0, other]}
    return answered(arm=arm, id=id_, correct=bool(correct), **known)


def test_gain_by_kind():
    base, ours = [0, 1, 0, 1, 0, 0], [1, 1, 1, 0, 0, 1]
    kinds = ["facts", "facts", "facts", "sums", "sums", "sums"]
    records = [
        record(arm, f"q{i}", right, kind=kind)
        for arm, all_of_it in (("base", base), ("ours", ours))
        for i, (right, kind) in enumerate(zip(all_of_it, kinds, strict=True))
    ]
    records += [record(arm, "p", 1, dataset="piqa", kind="") for arm in ("base", "ours")]
    records.append(record("ours", "not asked of the base", 1))
    rows = gain_by_kind(records, "ours", "base", seed=0)
    assert [(r.dataset, r.kind, r.n) for r in rows] == [
        *(("arc", None, 6), ("arc", "facts", 3), ("arc", "sums", 3), ("piqa", None, 1))
    ]
    assert [r.gain for r in rows] == pytest.approx([100 / 3, 200 / 3, 0, 0])
    assert [r.base for r in rows] == pytest.approx([100 / 3, 100 / 3, 100 / 3, 100])
    sums = [[r for r in records if r.arm == arm and r.subject == "sums"] for arm in ("ours", "base")]
    expected = compare(*sums, seed=0)
    assert (rows[2].ci_low, rows[2].ci_high) == (expected.ci_low, expected.ci_high)
    assert all(r.ci_low <= r.gain <= r.ci_high for r in rows)


@pytest.mark.parametrize("chosen_by", ["text", "letter"])
def test_confidence_is_held_against_the_likeliest_choice_where_another_was_written(chosen_by):
    asked = [{"arm": "a", "id": f"q{i}", "scores": [0.0, -1.0], "answer": int(i > 2)} for i in range(5)]
    likely = [answered(**one, choice=0) for one in asked]
    wrote = [answered(**one, choice=c, chosen_by=chosen_by) for one, c in zip(asked, (1, -1, 1, 1, 0), strict=True)]
    assert (sum(r.correct for r in likely), sum(r.correct for r in wrote)) == (3, 1)
    assert reliability(wrote) == reliability(likely)
    assert calibration_error(wrote) == calibration_error(likely)


def test_reliability_is_what_the_calibration_error_is_made_of():
    given = [(0.55, 1), (0.58, 0), (0.71, 1), (0.78, 1), (0.99, 1), (0.93, 0), (1 - 1e-12, 1)]
    records = [record("a", f"q{i}", right, confidence=c) for i, (c, right) in enumerate(given)]
    bins = reliability(records)
    assert [b.n for b in bins] == [2, 2, 3]
    assert [b.accuracy for b in bins] == pytest.approx([0.5, 1, 2 / 3])
    assert bins[0].confidence == pytest.approx(0.565)
    assert all(b.low <= b.accuracy <= b.high for b in bins)
    assert (bins[1].low, bins[1].high) == pytest.approx((0.3424, 1), abs=1e-4)  # Wilson, 2 of 2
    error = sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / 7
    assert 100 * error == pytest.approx(calibration_error(records))
