"""Writes the pool: 300 labeled references of each data set, as the leader board takes them, and the demo's.

C3PO_DATA=FOLDER python studies/mixture/pool.py runs/pool.jsonl
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from c3po_adaptive.storage.files import write_text
from c3po_adaptive.study.config import Dataset, read_yaml
from c3po_adaptive.study.data import references_of

SAME = Path(__file__).parents[1] / "leaderboard" / "same.yaml"
DEMO = {"name": "demo", "questions": "demo", "references": ["demo:references"], "references_limit": 300}


def main(out: str) -> None:
    """Each reference's ``task`` tells where it is from; no arm reads it."""
    found = [q for raw in [*read_yaml(SAME)["datasets"], DEMO] for q in references_of(Dataset(**raw))]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_text(Path(out), "".join(json.dumps(asdict(q) | {"split": ""}, ensure_ascii=False) + "\n" for q in found))
    print(f"Written: {out}, {len(found)} references")


if __name__ == "__main__":
    main(sys.argv[1])
