"""The same questions behind so many tokens of other text: ``C3PO_BED=FOLDER python -m long.questions FOLDER`` (in
``studies``) writes ``0.jsonl``, ``512.jsonl`` and ``1500.jsonl``; and ``512-about.jsonl``, where neighbours are found
by the question alone.
"""

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import yaml

from c3po_adaptive import load_moe_model
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks.question_files import first_of
from c3po_adaptive.tasks.sources import questions
from c3po_adaptive.types import Question

TOKENS = (0, 512, 1500)
ASKED = 75
CONFIG = Path(__file__).parent / "config.yaml"
OTHER = "bed:agnews_topic"
"""Whose texts stand in front: news, of which no kind that is asked is made."""


def articles(found: Sequence[Question]) -> list[str]:
    """The texts alone, without what is asked of them."""
    return [question.question.partition("\n")[2].strip() for question in found]


def in_front(texts: Sequence[str], tokens: int, encode, decode, seed: str) -> str:
    """So many tokens of texts in an order by the seed, from the beginning of one."""
    shuffled = random.Random(seed).sample(list(texts), len(texts))
    ids: list[int] = []
    for text in cycle(shuffled):
        if len(ids) >= tokens:
            break
        ids += encode(text + "\n\n")
    return decode(ids[:tokens]).rstrip()


def behind(question: Question, front: str) -> Question:
    """The question, which ends a longer text; as it is behind none."""
    return replace(question, question=f"{front}\n\n{question.question}" if front else question.question)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (kinds,) = {data["references"][0] for data in yaml.safe_load(CONFIG.read_text())["datasets"]}
    asked = first_of(questions(kinds, split="test"), ASKED)
    other, tokenizer = articles(questions(OTHER, split="references")), load_moe_model("smollm2-moe").tokenizer
    for tokens in TOKENS:
        own = [
            behind(q, in_front(other, tokens, lambda text: tokenizer(text)["input_ids"], tokenizer.decode, q.id))
            for q in asked
        ]
        written(folder / f"{tokens}.jsonl", own)
        if tokens == TOKENS[1]:
            found_by = [replace(q, about=alone.question) for q, alone in zip(own, asked, strict=True)]
            written(folder / f"{tokens}-about.jsonl", found_by)


def written(path: Path, own: Sequence[Question]) -> None:
    write_text(path, "".join(json.dumps(question.row()) + "\n" for question in own))
    print(f"{path.name}: {len(own)} questions of {len({q.subject for q in own})} kinds")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
