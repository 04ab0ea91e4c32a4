"""Of which kind is what a question learns from? ``C3PO_BED=FOLDER python -m answer.neighbours ../runs/unasked`` (in
``studies``) writes ``results/neighbours.json``: of each learned question of the second round, what share of its
neighbours' weight in ``each`` is on references of its own kind, in percent. The model has no part in it.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.settings import RemixSettings
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.data import questions_of, references_of
from c3po_adaptive.tasks.formats import description
from c3po_adaptive.types import Question

CONFIG = Path(__file__).parent / "second.yaml"
FOUND = CONFIG.parent / "results" / "neighbours.json"


def on_own_kind(
    asked: Sequence[Question], known: Sequence[Question], retriever: FaissKNN, kernel: Gaussian
) -> dict[str, float]:
    """By a question's id."""
    mine, theirs = (default_embedder().encode([description(q) for q in part]) for part in (asked, known))
    hits = retriever.fit(theirs).search(mine, max_similarity=RemixSettings().max_similarity)
    found = {}
    for question, vector, row in zip(asked, mine, hits.index, strict=True):
        near = row[row >= 0]
        weights = kernel(vector[None], theirs[near])[0]
        own = np.array([known[i].subject == question.subject for i in near])
        found[question.id] = round(100 * float(weights[own].sum() / weights.sum()), 2)
    return found


def main(folder: str) -> None:
    config = yaml.safe_load(CONFIG.read_text())
    learned = STUDY.parse(config).datasets[0].model_copy(update={"questions": f"{folder}/learned.jsonl"})
    retriever, kernel = (dict(config["arms"]["each"][role]) for role in ("retriever", "kernel"))
    found = on_own_kind(
        questions_of(learned),
        references_of(learned),
        FaissKNN(k=retriever["k"]),
        Gaussian(length_scale=kernel["length_scale"]),
    )
    write_text(FOUND, json.dumps(found) + "\n")
    print(f"{np.mean([*found.values()]):.1f} % of the weight is on the question's own kind")


if __name__ == "__main__":
    main(sys.argv[1])
