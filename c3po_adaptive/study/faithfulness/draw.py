"""The report of a study of faithfulness: one page, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import DataError
from ...report.page import draw
from ...storage.files import write_text
from ...storage.json_files import checked, read_json
from ...storage.run_folder import made_by
from .pictures import faithful, heat
from .summary import FaithfulnessSummary

_AGAIN = "run the study again"


def page(summary: FaithfulnessSummary, made: Mapping[str, str | None] | None = None) -> str:
    """The page as HTML, self-contained; ``made`` says by what, as ``made_by`` does."""
    names = list(dict.fromkeys(row.dataset for row in summary.rows))
    shown = "all" if "all" in names else names[0]
    return draw(
        __package__,
        "report.html.j2",
        made=made,
        model=summary.config.get("model"),
        summary=summary,
        names=names,
        truths=summary.truths,
        correlations=faithful([row for row in summary.rows if row.dataset == shown], summary.truths),
        heat=heat(summary.layers, summary.decoder_layers),
    )


def draw_report(out: Path | str) -> None:
    """Draw the report of a study's summary.

    Raises:
        DataError: there is none: the study was interrupted.
    """
    path = Path(out) / "summary.json"
    if not path.is_file():
        raise DataError(f"Expected a study that was run to the end, got {out} without {path.name}; run it again.")
    summary = checked(FaithfulnessSummary, read_json(path, _AGAIN), str(path), _AGAIN)
    write_text(Path(out) / "report.html", page(summary, made_by(out)))
