"""Which kinds are asked, from the records of ``gate.yaml``; written into ``kinds.yaml``, which the other configurations
take their data from: ``python studies/answer/gate.py runs/gate``.

Rule (``studies/protocol.md``): the model is right at least five points more often than chance on validation questions.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import yaml

from c3po_adaptive.tasks.bed import LEARNED, cases

MARGIN, LEARNED_FROM = 0.05, 30
ASKED = {"learned": 18, "reworded": 8, "others": 4}
"""Questions of each kind, by what experts know of it."""
HERE = Path(__file__).parent


def gated(records: list[dict]) -> list[str]:
    """Kinds above the margin, in alphabetical order."""
    by_kind = defaultdict(list)
    for record in records:
        by_kind[record["subject"]].append(record["correct"] - 1 / len(record["scores"]))
    return sorted(kind for kind, found in by_kind.items() if sum(found) / len(found) >= MARGIN)


def data(kinds: list[str]) -> list[dict]:
    """The data sets: kinds that experts learned, these in other words (all there are), and all others; one set of
    references, of all kinds.
    """
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
    kinds = gated([json.loads(line) for line in (run / "records.jsonl").open()])
    (HERE / "kinds.yaml").write_text(yaml.safe_dump({"datasets": data(kinds)}, sort_keys=False, width=120))
    print(f"{len(kinds)} kinds: {', '.join(kinds)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
