"""Which kinds are asked, from the records of ``gate.yaml``: ``python -m answer.gate RUN`` (in ``studies``).

It writes ``results/gate.json``, by how many points the model is above chance on each kind, and prints the data sets
that follow.

Rule (``studies/protocol.md``): at least five points more often right than chance on validation questions.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import yaml
from c3po_bed import LEARNED, cases

from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.storage.files import write_text

MARGIN, LEARNED_FROM = 5.0, 30
ASKED = {"learned": 18, "reworded": 8, "others": 4}
"""Questions of each kind, by what experts know of it."""
ABOVE = Path(__file__).parent / "results" / "gate.json"


def above_chance(records: list[AnswerRecord]) -> dict[str, float]:
    """Points by which each kind is answered better than by chance."""
    by_kind: dict[str, list[float]] = defaultdict(list)
    for record in records:
        by_kind[record.subject].append(100 * (record.correct - 1 / len(record.scores)))
    return {kind: round(sum(found) / len(found), 3) for kind, found in sorted(by_kind.items())}


def data(above: dict[str, float]) -> list[dict[str, object]]:
    """The data sets: kinds that experts learned, these in other words (all there are), and all others; one set of
    references, of all gated kinds.
    """
    kinds = [kind for kind, points in above.items() if points >= MARGIN]
    learned, others = ([kind for kind in kinds if (kind in LEARNED) == known] for known in (True, False))
    sources = {
        "learned": (learned, f"bed:{','.join(learned)}"),
        "reworded": (cases()["reworded"], "bed:reworded"),
        "others": (others, f"bed:{','.join(others)}"),
    }
    known = {
        "references": [f"bed:{','.join(kinds)}"],
        "references_split": "references",
        "references_limit": LEARNED_FROM * len(kinds),
    }
    return [
        {"name": name, "questions": source, "split": "test", "limit": ASKED[name] * len(of)} | known
        for name, (of, source) in sources.items()
    ]


def main(run: Path) -> None:
    above = above_chance(read_records(run, AnswerRecord))
    write_text(ABOVE, json.dumps(above, indent=1) + "\n")
    print(yaml.safe_dump({"datasets": data(above)}, sort_keys=False, width=10_000))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
