"""A control that is drawn, drawn many times: where an arm stands among its draws."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]
TIE = 1e-9  # points: equal gains are summed from other data sets' parts, and so rounded otherwise


def among_draws(rows: Sequence[Row], headline: str | None) -> list[dict[str, Any]]:
    """The headline's gain among those of each control of which there are several draws: arms alike in all but ``seed``.

    All questions of a data set learn from the same references, so that one draw of these moves every answer together,
    and an interval over questions says nothing of the next draw. ``p`` is the share of draws, the headline counted as
    one, that gain at least as much: no smaller than one over their number and one (Phipson and Smyth 2010, Stat. Appl.
    Genet. Mol. Biol. 9:39).

    Args:
        rows: of a summary: each arm on each data set.
        headline: the arm that the run is about; None: nothing is compared.

    Returns:
        A row for each control on each data set; gains in points.
    """
    found = []
    for own in (row for row in rows if row["arm"] == headline):
        groups: dict[str, list[Row]] = {}
        for row in (row for row in rows if row["dataset"] == own["dataset"]):
            groups.setdefault(_but_for_the_seed(row), []).append(row)
        for draws in groups.values():
            if own in draws or len({row["setting"].get("seed") for row in draws}) < 2:
                continue
            gains = np.array([row["gain"] for row in draws])
            found.append(
                {
                    "dataset": own["dataset"],
                    "arm": own["arm"],
                    "control": draws[0]["arm"],
                    "draws": len(draws),
                    "gain": own["gain"],
                    "mean": float(gains.mean()),
                    "sd": float(gains.std(ddof=1)),
                    "lowest": float(gains.min()),
                    "highest": float(gains.max()),
                    "p": (1 + int((gains > own["gain"] - TIE).sum())) / (1 + len(gains)),
                }
            )
    return found


def _but_for_the_seed(row: Row) -> str:
    setting = {name: value for name, value in row["setting"].items() if name != "seed"}
    return json.dumps([row["optimizer"], row["selector"], setting], sort_keys=True)
