"""How well ``refset check --suspects`` tells flipped labels: ``python -m poisoned.suspects`` (in ``studies``).

Of the study's 240 references, embedded, no model asked; writes ``results/suspects.json``: for each share of flipped
labels the area under the curve with a 95 % interval over references, and what ``learn_from: consistent`` leaves.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from c3po_adaptive.references.agreement import suspicion
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.references.poison import Poison
from c3po_adaptive.references.poisoning import poisoned
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.study.data import references_of
from c3po_adaptive.study.study_config import Dataset
from c3po_adaptive.types import Question

HERE = Path(__file__).parent
SHARES, SEEDS, DRAWS = (0.1, 0.3, 0.5), range(20), 2000


def told(references: Sequence[Question], share: float) -> dict[str, object]:
    """Over twenty draws of which labels are flipped: the mean area, with an interval over references."""
    vectors = default_embedder().encode([q.question for q in references])
    wrong, scores = [], []
    for seed in SEEDS:
        found = poisoned(Poison(attack="flipped-labels", share=share, seed=seed), (), references, "")
        wrong.append([q.id in found.wrong for q in found.references])
        scores.append(suspicion(found.references, vectors))
    flipped, suspected = np.array(wrong), np.array(scores)
    low, high = interval(flipped, suspected)
    left = suspected <= 0
    return {
        "share": share,
        "references": len(references),
        "auc": round(area(flipped, suspected), 4),
        "ci": [round(low, 4), round(high, 4)],
        "wrong_left": round(float(np.mean((left & flipped).sum(1) / left.sum(1))), 4),
        "right_left": round(float(np.mean((left & ~flipped).sum(1) / (~flipped).sum(1))), 4),
    }


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


def main() -> None:
    data = yaml.safe_load((HERE / "config.yaml").read_text())["datasets"][0]
    references = references_of(Dataset(**data))
    found = [told(references, share) for share in SHARES]
    (HERE / "results").mkdir(exist_ok=True)
    write_text(HERE / "results" / "suspects.json", json.dumps(found, indent=1) + "\n")
    print(*found, sep="\n")


if __name__ == "__main__":
    main()
