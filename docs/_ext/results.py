"""``{results} STUDY`` and ``{ratios}``: tables of committed summaries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from written import Written, table

STUDIES = Path(__file__).parents[2] / "studies"
BASE = "base"


def summary(place: str) -> dict[str, Any]:
    """``STUDY`` or ``STUDY/FILE`` without its ending."""
    study, _, name = place.partition("/")
    read: dict[str, Any] = json.loads(
        (STUDIES / study / "results" / f"{name or 'summary'}.json").read_text(encoding="utf-8")
    )
    return read


def gain(row: Mapping[str, Any]) -> str:
    """In points, with its interval."""
    return f"{row['difference']:+.1f} [{row['ci_low']:+.1f}, {row['ci_high']:+.1f}]"


class Results(Written):
    """Arms that a protocol compared, over its first group."""

    def text(self) -> str:
        """A row for each arm that was compared with the base."""
        found = summary(self.arguments[0])
        on = found["rows"][0]["on"]
        gains = {
            one["a"]: gain(one)
            for one in found["comparisons"]
            if (one["on"], one["b"], one["test"]) == (on, BASE, "superiority")
        }
        shown = [
            [
                *(f"`{row['arm']}`", f"{row['n']:,}", f"{row['accuracy']:.1f}"),
                *(gains.get(row["arm"], ""), f"{row['cost']:.1f}"),
            ]
            for row in found["rows"]
            if row["on"] == on and row["arm"] in {BASE, *gains}
        ]
        columns = ("arm", "questions", "accuracy, %", "gain in points, 95 %", "cost in base forwards")
        return table(columns, shown, numbers=4)


class Ratios(Written):
    """What re-mixing costs."""

    def text(self) -> str:
        """A row for each case, and for each search."""
        found = summary("speed")
        cases = [
            [
                *(f"`{row['case']}`", f"{row['ratio']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]"),
                *(f"{row['flops_ratio']:.2f}", f"{row['over_flops']:.2f}"),
            ]
            for row in found["rows"]
        ]
        searches = [
            [
                *(f"`{row['retriever']['name']}`", f"{row['references']:,}", f"{row['milliseconds']:.1f}"),
                *(f"{row['exact_milliseconds']:.1f}", f"{row['recall']:.3f}"),
            ]
            for row in found["searches"]
        ]
        return "\n".join(
            [
                table(
                    ("case", "wall clock over a plain answer", "FLOPs likewise", "wall clock over FLOPs"),
                    cases,
                    numbers=3,
                ),
                "Searches for neighbours:\n",
                table(("retriever", "references", "ms a question", "exactly, ms", "recall"), searches, numbers=4),
            ]
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_directive("results", Results)
    app.add_directive("ratios", Ratios)
    return {"parallel_read_safe": True}
