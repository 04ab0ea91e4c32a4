"""Test questions of the kinds that experts learned of which the first round asked neither wording:
``C3PO_BED=FOLDER python -m answer.unasked FOLDER`` (in ``studies``) writes ``learned.jsonl`` and ``reworded.jsonl``,
and each kind's by itself in folders of these names.
"""

import json
import sys
from pathlib import Path

import yaml

from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks.question_files import first_of
from c3po_adaptive.tasks.sources import questions
from c3po_adaptive.types import Question

EACH = {"learned": 42, "reworded": 18}
"""At most so many of each kind, as 18 and 8 were asked before."""
CONFIG = Path(__file__).parent / "config.yaml"
FIRST = CONFIG.parent / "results" / "first" / "sound.parquet"


def of_either_wording(id_: str) -> str:
    """What names a question however it is worded: kind and number."""
    return "/".join(id_.split("/")[:2])


def unasked(found: list[Question], asked: set[str], each: int) -> list[Question]:
    """The first of each kind, in the order of ``limit``, of which no wording was asked."""
    left: dict[str, list[Question]] = {}
    for question in found:
        if of_either_wording(question.id) not in asked:
            left.setdefault(question.subject, []).append(question)
    return [question for kind in left.values() for question in first_of(kind, each)]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    asked = {of_either_wording(record.id) for record in read_parquet(FIRST)}
    for data in yaml.safe_load(CONFIG.read_text())["datasets"]:
        if (name := data["name"]) in EACH:
            own = unasked(questions(data["questions"], split="test"), asked, EACH[name])
            by_kind = {kind: [q for q in own if q.subject == kind] for kind in {q.subject for q in own}}
            (folder / name).mkdir(exist_ok=True)
            for file, part in {name: own, **{f"{name}/{kind}": part for kind, part in by_kind.items()}}.items():
                write_text(folder / f"{file}.jsonl", "".join(json.dumps(question.row()) + "\n" for question in part))
            print(f"{name}: {len(own)} questions of {len(by_kind)} kinds")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
