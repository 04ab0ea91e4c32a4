"""Compact records: small, and enough for every statistic."""

import json
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records.made import made, summarize
from report.test_report import synthetic

from c3po_adaptive.errors import DataError
from c3po_adaptive.records.parquet import read_parquet, write_parquet


@pytest.mark.slow
def test_the_same_summary(tmp_path):
    records = synthetic(40, datasets=("one", "two"))
    for record in records:
        strength = None if record["arm"] != "ngd" else record["scores"][0]
        record |= {"strength": strength, "moved": record["cost"]["total"] / 9}
    records = made(records)
    path = tmp_path / "records.parquet"
    write_parquet(records, path)
    assert path.stat().st_size < 40 * len(records)
    again = read_parquet(path)
    arms = [(r.dataset, r.arm) for r in again]
    together = list(dict.fromkeys((r.dataset, r.arm) for r in records))
    assert [arm for arm, _ in groupby(arms)] == together
    before = {(r.dataset, r.arm, r.id): r for r in records}
    assert len(again) == len(before)
    for one in again:
        other = before[one.dataset, one.arm, one.id]
        assert one.scores == pytest.approx([s - other.scores[other.answer] for s in other.scores], abs=6e-4)
        assert (one.choice, one.layers) == (other.choice, other.layers)
        assert one.moved == pytest.approx(other.moved, abs=6e-5)
        assert one.cost.total == pytest.approx(other.cost.total, abs=2e-3)
    whole, small = (summarize(r, config={}, seed=0) for r in (records, again))
    for name in ("rows", "comparisons", "risk"):
        assert len(small[name]) == len(whole[name]) > 0
        for one, other in zip(small[name], whole[name], strict=True):
            for key, value in other.items():
                if key.startswith("calibration"):  # a question near the edge of a bin may change it
                    assert one[key] == pytest.approx(value, abs=2)
                elif isinstance(value, float):
                    assert one[key] == pytest.approx(value, abs=1e-3), (name, key)
                elif key != "cost":
                    assert json.loads(json.dumps(one[key])) == json.loads(json.dumps(value)), (name, key)


def test_what_is_no_such_file(tmp_path):
    for text in (None, "no parquet"):
        if text is not None:
            (tmp_path / "x.parquet").write_text(text)
        with pytest.raises(DataError, match="Expected the Parquet records of a run"):
            read_parquet(tmp_path / "x.parquet")


def test_a_file_of_another_layout_is_refused_with_what_to_do(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "score": [1.0]}), tmp_path / "x.parquet")
    with pytest.raises(
        DataError, match="got none for the column of_arm, which is of string; draw the run's report again"
    ):
        read_parquet(tmp_path / "x.parquet")


def test_committed_records_take_few_bytes():
    files = list((Path(__file__).parents[2] / "studies").glob("*/results/*.parquet"))
    files = [file for file in files if "cost_answer" in pq.read_schema(file).names]  # others are a study's own
    assert files
    for file in files:
        of_itself = 5_000  # settings and columns, which a small study's file consists of for a third
        assert file.stat().st_size < of_itself + 10 * pq.ParquetFile(file).metadata.num_rows, file
