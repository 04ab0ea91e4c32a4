"""Writes the pool: 300 labeled references of each data set, as the leader board takes them, and the demo's; beside it a
file of each set's own, for the arm that is told which set a question is from.

C3PO_DATA=FOLDER python studies/mixture/pool.py runs/pool
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from c3po_adaptive.storage.files import write_text
from c3po_adaptive.study.data import references_of
from c3po_adaptive.study.study_config import Dataset, read_yaml

SAME = Path(__file__).parents[1] / "leaderboard" / "same.yaml"
CARVED = "studies/embedded_model/carved/demo"
DEMO = {"name": "demo", "questions": CARVED, "references": [f"{CARVED}:references"], "references_limit": 300}


def main(out: str) -> None:
    """``out``/all.jsonl, and ``out``/NAME.jsonl of each set. A reference's ``task`` tells where it is from; no arm
    reads it."""
    parts = {raw["name"]: references_of(Dataset(**raw)) for raw in [*read_yaml(SAME)["datasets"], DEMO]}
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, found in [*parts.items(), ("all", [q for part in parts.values() for q in part])]:
        lines = (json.dumps(asdict(q) | {"split": ""}, ensure_ascii=False) + "\n" for q in found)
        write_text(Path(out) / f"{name}.jsonl", "".join(lines))
        print(f"{name}: {len(found)} references")


if __name__ == "__main__":
    main(sys.argv[1])
