"""Compact records: small, and enough for every statistic."""

import json

import pytest
from report.test_report import synthetic

from c3po_adaptive.analysis.summary import summarize
from c3po_adaptive.errors import DataError
from c3po_adaptive.storage.parquet_records import read_parquet, write_parquet


def test_the_same_summary(tmp_path):
    records = synthetic(40, datasets=("one", "two"))
    for record in records:
        record["strength"] = None if record["arm"] != "ngd" else record["scores"][0]
    path = tmp_path / "records.parquet"
    write_parquet(records, path)
    assert path.stat().st_size < 60 * len(records)
    again = read_parquet(path)
    assert [r["id"] for r in again] == [r["id"] for r in records]
    assert [r["scores"] for r in again] == [[round(s, 5) for s in r["scores"]] for r in records]
    whole, small = (summarize(r, config={}, seed=0) for r in (records, again))
    for name in ("rows", "comparisons", "risk"):
        assert len(small[name]) == len(whole[name]) > 0
        for one, other in zip(small[name], whole[name], strict=True):
            for key, value in other.items():
                if isinstance(value, float):
                    assert one[key] == pytest.approx(value, abs=1e-4), (name, key)
                elif key != "cost":
                    assert json.loads(json.dumps(one[key])) == json.loads(json.dumps(value)), (name, key)


def test_what_is_no_such_file(tmp_path):
    for text in (None, "no parquet"):
        if text is not None:
            (tmp_path / "x.parquet").write_text(text)
        with pytest.raises(DataError, match="Expected the Parquet records of a run"):
            read_parquet(tmp_path / "x.parquet")
