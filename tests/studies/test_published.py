"""The table of tries is what the kept answers say."""

import re
from pathlib import Path

import numpy as np

from c3po_adaptive.analysis.statistics import gold_nll
from c3po_adaptive.records.parquet import read_parquet

STUDY = Path(__file__).parents[2] / "studies" / "published"
ARMS = {
    "base": "base",
    "as published, straight-through gradient": "published / straight-through",
    "as published, gradient of the mixed core": "published / core",
    "tuned, rate 0.003": "tuned / 0.003",
    "tuned, rate 0.01 (the paper's)": "tuned / 0.01",
    "tuned, rate 0.03": "tuned / 0.03",
    "tuned, rate 0.1": "tuned / 0.1",
    "tuned, rate 0.01, gradient of the mixed core": "tuned / core 0.01",
}


def test_tries():
    rows = re.findall(r"^\| ([^|]+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", (STUDY / "README.md").read_text(), re.M)
    assert [name for name, *_ in rows] == [*ARMS]
    records = read_parquet(STUDY / "results" / "tries.parquet")
    for name, *shown in rows:
        own = [r for r in records if r.arm == ARMS[name]]
        means = (
            100 * np.mean([r.correct for r in own]),
            np.mean([*map(gold_nll, own)]),
            np.mean([r.cost.total for r in own]),
        )
        assert len(own) == 105
        assert shown == [f"{mean:.{digits}f}" for mean, digits in zip(means, (1, 2, 1), strict=True)]
