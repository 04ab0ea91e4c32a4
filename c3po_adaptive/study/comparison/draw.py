"""The report of a comparison, drawn from what its folder holds."""

from __future__ import annotations

from pathlib import Path

from ...report.html import render
from ..data import Data


def draw_report(out: Path | str, data: Data) -> None:
    """Draw ``report.html`` of a run's summary and records.

    Args:
        out: the run's folder.
        data: the texts of its questions and references, as far as they are at hand; ids stand for others.
    """
    asked = {(name, q.id): q for name, part in data.items() for q in part.questions}
    known = {(name, q.id): q for name, part in data.items() for q in part.references}
    render(out, asked, known)
