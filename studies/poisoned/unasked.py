"""Test questions of the study's kinds that its first round did not ask: ``C3PO_BED=FOLDER python -m poisoned.unasked
FOLDER`` (in ``studies``) writes ``again.jsonl``.
"""

import json
import sys
from pathlib import Path

import yaml

from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks.sources import questions

CONFIG = Path(__file__).parent / "config.yaml"
FIRST = CONFIG.parent / "results" / "early.parquet"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    asked = {record.id for record in read_parquet(FIRST) if record.dataset == "clean"}
    kinds = yaml.safe_load(CONFIG.read_text())["datasets"][0]["questions"]
    left = [question for question in questions(kinds, split="test") if question.id not in asked]
    write_text(folder / "again.jsonl", "".join(json.dumps(question.row()) + "\n" for question in left))
    print(f"{len(left)} questions")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
