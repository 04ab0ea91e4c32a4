"""Figures that the paper reports, to be drawn beside those of a run: never results of ours."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def _table() -> Any:
    return json.loads((files(__package__) / "published.json").read_text())


def models() -> list[str]:
    """Models that the paper reports."""
    return [*_table()["models"]]


def source() -> str:
    """Where the figures are from."""
    return str(_table()["source"])


def called(model: str) -> str:
    """What the paper calls a model."""
    return str(_table()["models"][model]["called"])


def accuracy(model: str, benchmark: str) -> dict[str, float]:
    """Percent by the optimizer that stands for the paper's method (``none``: the base); empty: another benchmark."""
    names = _table()["benchmarks"]
    if benchmark not in names:
        return {}
    place = names.index(benchmark)
    return {method: row[place] for method, row in _table()["models"][model]["accuracy"].items()}
