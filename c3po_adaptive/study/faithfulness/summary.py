"""From records of scores to how faithful each is, with intervals over questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...analysis.statistics import bootstrap_interval
from ...errors import DataError
from ...storage.json_files import SCHEMA
from .config import FaithfulnessConfig
from .curves import area
from .metrics import overlap, rank_correlation
from .record import ScoreRecord
from .truth import TRUTHS

RANDOM = "random layers"
TRUTH = "truth"
"""The arm of records that hold what each layer really does."""
CONTROLS = ("last layers", RANDOM)
"""Scores that look at nothing: the later the better, and drawn at random."""
FEWEST = 10  # questions of a kind for an interval of their mean
Floats = NDArray[np.float64]


def summarize(records: Sequence[ScoreRecord], config: FaithfulnessConfig, layers: Sequence[int]) -> dict[str, Any]:
    """``rows``: a score on a data set (and on ``all``, the mean over them) beside each truth. ``layers``:
    single-layer effects on the own loss by kind of question.

    Raises:
        DataError: a question without its truth: the study was interrupted.
    """
    names = [d.name for d in config.datasets]
    tables = {name: _Table([r for r in records if r.dataset == name], config) for name in names}
    groups = {name: [name] for name in names} | ({"all": names} if len(names) > 1 else {})
    rows = [
        {"dataset": group, "score": score} | _row(score, [tables[name] for name in members], config)
        for group, members in groups.items()
        for score in [*config.scores, *CONTROLS]
    ]
    return {
        "schema_version": SCHEMA,
        "kind": "faithfulness",
        "config": config.model_dump(mode="json"),
        "truths": truths_of(config),
        "decoder_layers": list(layers),
        "rows": rows,
        "layers": [row for name in names for row in tables[name].by_kind(config.seed)],
    }


def truths_of(config: FaithfulnessConfig) -> tuple[str, ...]:
    """Those that are looked at."""
    return TRUTHS if config.neighbours else TRUTHS[:2]


class _Table:
    """One data set's records, question by question in one order."""

    def __init__(self, records: Sequence[ScoreRecord], config: FaithfulnessConfig) -> None:
        self.truth = [r for r in records if r.arm == TRUTH]
        by_score: dict[str, dict[str, ScoreRecord]] = {name: {} for name in [*config.scores, *CONTROLS]}
        for record in records:
            if record.arm in by_score:
                by_score[record.arm][record.id] = record
        ids = [r.id for r in self.truth]
        asked = {r.id for r in records}
        missing = [name for name, rows in by_score.items() if rows.keys() != asked]
        if missing or asked != set(ids):
            raise DataError(
                f"Expected every score of every question, got some without {', '.join(missing) or 'truth'}; run it to "
                "the end."
            )
        self.scores = {name: [rows[i] for i in ids] for name, rows in by_score.items()}

    def effects(self, name: str) -> Floats:
        """``[N, L]``."""
        return np.array([r.effects[name] for r in self.truth])

    def values(self, score: str, field: str = "values") -> Floats:
        return np.array([getattr(r, field) for r in self.scores[score]], dtype=float)

    def role(self, score: str) -> str:
        """control, bound (it looks at a label, or re-mixes every layer) or method."""
        return str(self.scores[score][0].role)

    def some(self, score: str, field: str) -> Floats:
        """Of those questions that have it."""
        return np.array([x for r in self.scores[score] if (x := getattr(r, field)) is not None], dtype=float)

    def by_kind(self, seed: int) -> list[dict[str, Any]]:
        kinds = list(dict.fromkeys(r.kind for r in self.truth))
        effects, found = self.effects("alone, own"), []
        for kind in kinds:
            of_kind = effects[[r.kind == kind for r in self.truth]]
            intervals = (
                [bootstrap_interval([column], seed=seed) for column in of_kind.T] if len(of_kind) >= FEWEST else []
            )
            found.append(
                {
                    "dataset": self.truth[0].dataset,
                    "kind": kind,
                    "n": len(of_kind),
                    "effect": [round(float(x), 5) for x in of_kind.mean(0)],
                    "ci": [[round(a, 5), round(b, 5)] for a, b in intervals] or None,
                }
            )
        return found


def _row(score: str, tables: Sequence[_Table], config: FaithfulnessConfig) -> dict[str, Any]:
    seed, n = config.seed, config.n
    layers, truths = tables[0].effects(TRUTHS[0]).shape[1], truths_of(config)
    row: dict[str, Any] = {"n": sum(len(t.truth) for t in tables), "role": tables[0].role(score)}
    for name in truths:
        row[name] = _mean([rank_correlation(t.values(score), t.effects(name)) for t in tables], seed)
    inserted, chance, deleted = (
        [_area(t, name, field, config.points, layers) for t in tables]
        for name, field in ((score, "insertion"), (RANDOM, "insertion"), (score, "deletion"))
    )
    row["insertion"], row["deletion"] = _mean(inserted, seed), _mean(deleted, seed)
    row["beside_random"] = _mean([a - b for a, b in zip(inserted, chance, strict=True)], seed)
    last = np.arange(layers, dtype=float)
    row["last"] = _mean([overlap(t.values(score), np.tile(last, (len(t.truth), 1)), n) for t in tables], seed)
    for truth in (name for name in truths if name.startswith("alone")):
        name = truth.replace("alone", "best")
        row[name] = _mean([overlap(t.values(score), t.effects(truth), n) for t in tables], seed)
    row["chance"] = n / layers
    row["cost"] = float(np.mean([t.values(score, "cost").mean() for t in tables]))
    for field in ("other_neighbours", "other_seed", "infidelity", "sensitivity"):
        some = [t.some(score, field) for t in tables]
        row[field] = _mean(some, seed) if all(len(x) > 1 for x in some) else None
    return row


def _area(table: _Table, score: str, field: str, points: Sequence[int], layers: int) -> Floats:
    together = torch.tensor([r.together for r in table.truth])
    ends = (0 * together, together) if field == "insertion" else (together, 0 * together)
    found: Floats = area(torch.from_numpy(table.values(score, field)).float(), points, *ends, layers).numpy()
    return found


def _mean(strata: Sequence[Floats], seed: int) -> dict[str, float]:
    """Over data sets, with its interval over questions."""
    low, high = bootstrap_interval(list(strata), seed=seed)
    return {"mean": float(np.mean([s.mean() for s in strata])), "ci_low": low, "ci_high": high}
