"""What is asked and what is told: ``C3PO_BED=FOLDER python -m knowledge.facts FOLDER`` (in ``studies``) writes
``asked.jsonl`` (references, validation and test questions of both sorts of kinds) and ``told.jsonl`` (passages).
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks.question_files import first_of
from c3po_adaptive.tasks.sources import questions
from c3po_adaptive.types import Question

FACTS = {
    "lama_capital": (r"What is the capital of (.*)\?", "The capital of {} is {}."),
    "lama_field": (r"In which field did (.*) work\?", "{} worked in the field of {}."),
    "lama_occupation": (r"What was the profession of (.*)\?", "{} was by profession a {}."),
    "lama_instrument": (r"Which instrument does the musician (.*) play\?", "The musician {} plays the {}."),
    "lama_sports_position": (r"In which position does the athlete (.*) play\?", "The athlete {} plays as a {}."),
    "lama_tv_network": (r"On which network was (.*) first shown\?", "{} was first shown on {}."),
}
"""Kinds of facts that the model does not know, and the sentence that tells one."""
LEARNED = ("trec_number_type", "movie_slot", "restaurant_slot", "svamp_operation", "tweet_irony")
"""Kinds that the model's experts learned: no passage helps, the pathway may."""
EACH = {"references": 6, "validation": 5, "test": 9}
"""Questions of each kind by split: of each the first of every kind comes before the second of any."""
OTHERS = 60
"""Facts of each kind that are told and not asked."""


def sentence(question: Question) -> str:
    """The fact that a question asks for.

    Raises:
        ValueError: it is of no kind of ``FACTS``.
    """
    pattern, told = FACTS.get(question.task, ("", ""))
    found = re.fullmatch(pattern, question.question)
    if not found or question.answer is None:
        raise ValueError(f"Expected a question of {', '.join(FACTS)} with its answer, got {question.id!r}.")
    return told.format(found[1], question.choices[question.answer])


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    asked: dict[str, list[list[Question]]] = {split: [] for split in EACH}
    told, others = [], []
    for kind in (*FACTS, *LEARNED):
        left = []
        for split, count in EACH.items():
            found = [replace(q, task=kind, subject=kind, split=split) for q in questions(f"bed:{kind}", split=split)]
            own = first_of(found, count)
            asked[split].append(own)
            left += [question for question in found if question not in own]
            told += [(question.id, sentence(question)) for question in own if kind in FACTS]
        others += [(question.id, sentence(question)) for question in left[:OTHERS] if kind in FACTS]
    each = [question for kinds in asked.values() for turn in zip(*kinds, strict=True) for question in turn]
    _write(folder / "asked.jsonl", [question.row() for question in each])
    _write(folder / "told.jsonl", [{"id": f"told:{id_}", "text": text} for id_, text in told + others])
    _write(folder / "others.jsonl", [{"id": f"told:{id_}", "text": text} for id_, text in others])
    print(f"{len(each)} questions, {len(told)} facts that they ask for, {len(others)} others")


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
