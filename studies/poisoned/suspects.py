"""How well flipped labels are told: ``python -m poisoned.suspects early=SET sound=SET`` (in ``studies``).

Of the study's 240 references, as built sets of both models; writes ``results/suspects.json``: for each share of flipped
labels the area under the curve of ``refset check --suspects``, with a 95 % interval over references, what ``learn_from:
consistent`` leaves, and the area of each model's own scores: by how much another choice leads the label.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from c3po_poison.poisoning import attacked
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from c3po_adaptive.references.agreement import suspicion
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.study import Poison
from c3po_adaptive.study.data import references_of
from c3po_adaptive.study.study_config import Dataset
from c3po_adaptive.types import Question

HERE = Path(__file__).parent
SHARES, SEEDS, DRAWS = (0.1, 0.3, 0.5), range(20), 2000


Scores = Mapping[str, Sequence[Sequence[float]]]
"""Of each reference's choices, by model."""


def told(references: Sequence[Question], share: float, models: Scores) -> dict[str, object]:
    """Over twenty draws of which labels are flipped: the mean area, with an interval over references."""
    vectors = default_embedder().encode([q.question for q in references])
    known, encode = tuple(references), default_embedder().encode
    drawn = [attacked(Poison(attack="flipped-labels", share=share, seed=s), (), known, encode) for s in SEEDS]
    flipped = np.array([[q.id in found.wrong for q in found.references] for found in drawn])
    suspected = np.array([suspicion(found.references, vectors) for found in drawn])
    low, high = interval(flipped, suspected)
    left = suspected <= 0
    return {
        "share": share,
        "references": len(references),
        "auc": round(area(flipped, suspected), 4),
        "ci": [round(low, 4), round(high, 4)],
        "wrong_left": round(float(np.mean((left & flipped).sum(1) / left.sum(1))), 4),
        "right_left": round(float(np.mean((left & ~flipped).sum(1) / (~flipped).sum(1))), 4),
        "auc_of_scores": {
            name: round(area(flipped, np.array([_against(found.references, scores) for found in drawn])), 4)
            for name, scores in models.items()
        },
    }


def _against(references: Sequence[Question], scores: Sequence[Sequence[float]]) -> list[float]:
    """By how much the best other choice's score leads the label's."""
    return [
        max(s for i, s in enumerate(own) if i != q.answer) - own[q.answer or 0]
        for q, own in zip(references, scores, strict=True)
    ]


def area(flipped: NDArray[np.bool_], suspected: NDArray[np.float64]) -> float:
    """Mean over draws of labels, ``[draws, N]``."""
    return float(np.mean([roc_auc_score(*pair) for pair in zip(flipped, suspected, strict=True)]))


def interval(flipped: NDArray[np.bool_], suspected: NDArray[np.float64]) -> tuple[float, float]:
    """95 %, references resampled."""
    drawn, found = np.random.default_rng(0), []
    for _ in range(DRAWS // len(SEEDS)):
        rows = drawn.integers(0, flipped.shape[1], flipped.shape[1])
        found.append(area(flipped[:, rows], suspected[:, rows]))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def main(sets: Mapping[str, str]) -> None:
    data = yaml.safe_load((HERE / "config.yaml").read_text())["datasets"][0]
    references = references_of(Dataset(**data))
    models = {}
    for name, folder in sets.items():
        built = ReferenceSet.load(folder)
        if built.questions != tuple(references):
            raise SystemExit(f"Expected the set of the study's references, got {folder}; build it of config.yaml's.")
        models[name] = built.scores
    found = [told(references, share, models) for share in SHARES]
    (HERE / "results").mkdir(exist_ok=True)
    write_text(HERE / "results" / "suspects.json", json.dumps(found, indent=1) + "\n")
    print(*found, sep="\n")


if __name__ == "__main__":
    main(dict(argument.split("=", 1) for argument in sys.argv[1:]))
