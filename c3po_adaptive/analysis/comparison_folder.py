"""What a comparison's folder holds: its records, and its summary."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..records.answer import AnswerRecord
from ..records.jsonl import read_records
from ..records.summary import Summary
from ..storage.json_files import checked_json, read_text
from .unfinished_run import answered_by_base

SUMMARY = "summary.json"
_AGAIN = "run the study again, or delete the file"


def summary_in(folder: Path | str) -> Summary | None:
    """A comparison's summary; None: there is none.

    Raises:
        DataError: it is none of ours.
    """
    path = Path(folder) / SUMMARY
    return checked_json(Summary, read_text(path, _AGAIN), str(path), _AGAIN) if path.is_file() else None


def records_in(folder: Path | str) -> list[AnswerRecord]:
    """Records of a run, finished or not, without those of arms that failed: their answers before are no result.

    Raises:
        DataError: there are none, or one is none of ours; or the summary.
    """
    summary, records = summary_in(folder), read_records(folder, AnswerRecord)
    return [record for record in records if summary is None or record.arm not in summary.failed]


def results_in(folder: Path | str) -> tuple[Summary, list[AnswerRecord]]:
    """Both, of the same arms.

    Raises:
        DataError: a file is none of ours; there is no summary; or records of an arm that it does not know.
    """
    summary, records = summary_in(folder), records_in(folder)
    if summary is None:
        path = Path(folder) / SUMMARY
        raise DataError(f"Expected a summary in {path}, found none; let the run finish, or summarize its records.")
    if summary.missing:
        records = answered_by_base(records, summary.baseline)
    known = {(row.dataset, row.arm) for row in summary.rows}
    for record in records:
        if (record.dataset, record.arm) not in known:
            raise DataError(
                f"{folder}: expected records of the summary's arms, got one of {record.arm!r} on {record.dataset!r}; "
                f"{_AGAIN}."
            )
    return summary, records
