"""Which kinds are asked, from the records of ``gate.yaml``; written into ``kinds.yaml``, which the other configurations
take their data from: ``python studies/answer/gate.py runs/gate``.

Rule (``studies/protocol.md``): the model is right at least five points more often than chance on validation questions.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import yaml

MARGIN, ASKED, LEARNED_FROM = 0.05, 46, 30
HERE = Path(__file__).parent


def gated(records: list[dict]) -> list[str]:
    """Kinds above the margin, in alphabetical order."""
    by_kind = defaultdict(list)
    for record in records:
        by_kind[record["subject"]].append(record["correct"] - 1 / len(record["scores"]))
    return sorted(kind for kind, found in by_kind.items() if sum(found) / len(found) >= MARGIN)


def main(run: Path) -> None:
    kinds = gated([json.loads(line) for line in (run / "records.jsonl").open()])
    source = f"bed:{','.join(kinds)}"
    data = {
        "name": "bed",
        "questions": source,
        "split": "test",
        "limit": ASKED * len(kinds),
        "references": [source],
        "references_split": "references",
        "references_limit": LEARNED_FROM * len(kinds),
    }
    (HERE / "kinds.yaml").write_text(yaml.safe_dump({"datasets": [data]}, sort_keys=False, width=120))
    print(f"{len(kinds)} kinds: {', '.join(kinds)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
