"""From a run to what is kept of it: ``python -m long.collect RUN`` (in ``studies``) writes ``results/early.parquet``,
every answer, and ``results/neighbours.json``: what share of neighbours' weight is on the question's kind, by length.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.records.parquet import write_parquet
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"


def of_own_kind(records: Iterable[AnswerRecord], arm: str) -> dict[str, list[float]]:
    """By length, of each question: the share of its named neighbours' weight that is on references of its kind."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record.arm == arm and (total := sum(near.weight for near in record.neighbours)):
            own = sum(near.weight for near in record.neighbours if near.id.startswith(f"{record.subject}/"))
            found.setdefault(record.dataset, []).append(round(own / total, 4))
    return found


if __name__ == "__main__":
    answers = list(read_records(Path(sys.argv[1]), AnswerRecord))
    RESULTS.mkdir(exist_ok=True)
    write_parquet(answers, RESULTS / "early.parquet")
    write_text(RESULTS / "neighbours.json", json.dumps(of_own_kind(answers, "each")) + "\n")
