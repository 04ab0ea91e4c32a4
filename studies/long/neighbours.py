"""What share of neighbours' weight is on the question's own kind, by data set: ``python -m long.neighbours RUN NAME``
(in ``studies``) writes ``results/NAME.json``: ``neighbours`` of the first round, ``scopes_neighbours`` of the second.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"


def of_own_kind(records: Iterable[AnswerRecord], arm: str) -> dict[str, list[float]]:
    """Of each question: the share of its named neighbours' weight that is on references of its kind."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record.arm == arm and (total := sum(near.weight for near in record.neighbours)):
            own = sum(near.weight for near in record.neighbours if near.id.startswith(f"{record.subject}/"))
            found.setdefault(record.dataset, []).append(round(own / total, 4))
    return found


if __name__ == "__main__":
    run, name = sys.argv[1:]
    found = of_own_kind(read_records(Path(run), AnswerRecord), "each")
    write_text(RESULTS / f"{name}.json", json.dumps(found) + "\n")
