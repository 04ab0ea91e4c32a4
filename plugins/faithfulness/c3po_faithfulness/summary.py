"""From records of scores to how faithful each is, with intervals over questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from c3po_adaptive import DataError, bootstrap_interval
from c3po_adaptive.study import SCHEMA, Interval, Ours

from .config import FaithfulnessConfig
from .curves import area
from .exchanged_routers import EXCHANGED
from .layer_effects import TRUTHS
from .metrics import overlap, rank_correlation
from .places import LayerPlaces, mean_interval, placed
from .record import Role, ScoreRecord

RANDOM = "random layers"
TRUTH = "truth"
"""The arm of records that hold what each layer really does."""
CONTROLS = ("last layers", RANDOM)
"""Scores that look at nothing: the later the better, and drawn at random."""
PROBED = ("other_neighbours", "other_seed", "infidelity", "sensitivity")
FEWEST = 10  # questions of a kind for an interval of their mean
Floats = NDArray[np.float64]


class ScoreRow(Ours):
    """A score on a data set, or on ``all``, the mean over them; beside each truth by the truth's name, too.

    Attributes:
        insertion: area of the curve, as ``deletion``; ``beside_random``: minus that of random layers.
        last: share of the best layers that are among the last; for ``best, …`` among the best of that truth.
        other_neighbours: rank correlation with the score by other neighbours; None: not probed.
    """

    __pydantic_extra__: dict[str, Interval]

    dataset: str
    score: str
    n: int
    role: Role | None
    insertion: Interval
    deletion: Interval
    beside_random: Interval
    last: Interval
    chance: float
    cost: float
    other_neighbours: Interval | None
    other_seed: Interval | None
    infidelity: Interval | None
    sensitivity: Interval | None

    def correlation(self, truth: str) -> Interval:
        """Rank correlation with a truth."""
        return self.__pydantic_extra__[truth]


class KindEffects(Ours):
    """Single-layer effects on the own loss of a kind of question; ``ci``: intervals, None of too few questions."""

    dataset: str
    kind: str
    n: int
    effect: tuple[float, ...]
    ci: tuple[tuple[float, float], ...] | None


class FaithfulnessSummary(Ours):
    """the summary of a study of faithfulness"""

    schema_version: int = SCHEMA
    kind: Literal["faithfulness"] = "faithfulness"
    config: dict[str, object]
    truths: tuple[str, ...] = Field(min_length=1)
    decoder_layers: tuple[int, ...] = Field(min_length=1)
    rows: tuple[ScoreRow, ...] = Field(min_length=1)
    places: tuple[LayerPlaces, ...] = Field(min_length=1)
    layers: tuple[KindEffects, ...] = Field(min_length=1)
    hashes: dict[str, object] = Field(default_factory=dict)
    counted_once: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not isinstance(self.config.get("n"), int):
            raise ValueError("config: how many layers are compared (n) is wanted")
        wanted = {*self.truths, *(truth.replace("alone", "best") for truth in self.truths)}
        if lacking := [name for row in self.rows for name in wanted - (row.model_extra or {}).keys()]:
            raise ValueError(f"{lacking[0]!r} is wanted of each score")
        if any(len(row.effect) != len(row.ci or row.effect) for row in self.layers):
            raise ValueError("an interval for each layer's effect is wanted")
        unplaced = {(row.dataset, row.score) for row in self.rows} - {(row.dataset, row.of) for row in self.places}
        if unplaced or any(len(row.places) != len(self.decoder_layers) for row in self.places):
            raise ValueError("a place for each layer is wanted of each score")
        return self

    @property
    def marked(self) -> tuple[int, ...]:
        """Decoder layers that a score should put first."""
        found = self.config.get("marked")
        return tuple(x for x in found if isinstance(x, int)) if isinstance(found, list) else ()


def summarize(
    records: Sequence[ScoreRecord],
    config: FaithfulnessConfig,
    layers: Sequence[int],
    hashes: Mapping[str, object] | None = None,
    counted_once: Sequence[str] = (),
) -> FaithfulnessSummary:
    """What was found.

    Args:
        records: of the study.
        config: of it.
        layers: decoder layers that are MoE layers.
        hashes: of what was read.
        counted_once: questions that were given again.

    Raises:
        DataError: a question without its truth: the study was interrupted.
    """
    names, marked = [d.name for d in config.datasets], np.isin(layers, config.marked)
    tables = {name: _ScoredQuestions([r for r in records if r.dataset == name], config) for name in names}
    groups = {name: [name] for name in names} | ({"all": names} if len(names) > 1 else {})
    rows = [
        _row(group, score, [tables[name] for name in members], config)
        for group, members in groups.items()
        for score in [*config.scores, *CONTROLS]
    ]
    places = [
        _placed(group, of, [tables[name] for name in members], config.seed, marked)
        for group, members in groups.items()
        for of in [*config.scores, *CONTROLS, *truths_of(config)]
    ]
    return FaithfulnessSummary(
        config=config.model_dump(mode="json"),
        truths=truths_of(config),
        decoder_layers=tuple(layers),
        rows=tuple(rows),
        places=tuple(places),
        layers=tuple(row for name in names for row in tables[name].by_kind(config.seed)),
        hashes=dict(hashes or {}),
        counted_once=tuple(counted_once),
    )


def truths_of(config: FaithfulnessConfig) -> tuple[str, ...]:
    """Those that are looked at."""
    return (TRUTHS if config.neighbours else TRUTHS[:2]) + (EXCHANGED if config.beside else ())


class _ScoredQuestions:
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

    def some(self, score: str, field: str) -> Floats:
        """Of those questions that have it."""
        return np.array([x for r in self.scores[score] if (x := getattr(r, field)) is not None], dtype=float)

    def role(self, of: str) -> Role | None:
        """Of a score; None: it is a truth."""
        return self.scores[of][0].role if of in self.scores else None

    def standing(self, of: str) -> Floats:
        """``[N, L]`` a score's values, or a truth's effects."""
        return self.values(of) if of in self.scores else self.effects(of)

    @property
    def kinds(self) -> list[str]:
        return [r.kind for r in self.truth]

    def by_kind(self, seed: int) -> Iterator[KindEffects]:
        kinds = list(dict.fromkeys(self.kinds))
        effects = self.effects("alone, own")
        for kind in kinds:
            of_kind = effects[[r.kind == kind for r in self.truth]]
            intervals = (
                [bootstrap_interval([column], seed=seed) for column in of_kind.T] if len(of_kind) >= FEWEST else []
            )
            yield KindEffects(
                dataset=self.truth[0].dataset,
                kind=kind,
                n=len(of_kind),
                effect=tuple(round(float(x), 5) for x in of_kind.mean(0)),
                ci=tuple((round(a, 5), round(b, 5)) for a, b in intervals) or None,
            )


def _row(
    dataset: str,
    score: str,
    tables: Sequence[_ScoredQuestions],
    config: FaithfulnessConfig,
) -> ScoreRow:
    seed, n = config.seed, config.n
    layers, truths = tables[0].effects(TRUTHS[0]).shape[1], truths_of(config)
    inserted, chance, deleted = (
        [_area(t, name, field, config.points, layers) for t in tables]
        for name, field in ((score, "insertion"), (RANDOM, "insertion"), (score, "deletion"))
    )
    last = np.arange(layers, dtype=float)
    beside = {name: [rank_correlation(t.values(score), t.effects(name)) for t in tables] for name in truths}
    beside |= {
        name.replace("alone", "best"): [overlap(t.values(score), t.effects(name), n) for t in tables]
        for name in truths
        if name.startswith("alone")
    }
    probed = {field: [t.some(score, field) for t in tables] for field in PROBED}
    told: dict[str, Any] = {name: mean_interval(strata, seed) for name, strata in beside.items()}
    told |= {
        name: mean_interval(some, seed) if all(len(x) > 1 for x in some) else None for name, some in probed.items()
    }
    return ScoreRow(
        dataset=dataset,
        score=score,
        n=sum(len(t.truth) for t in tables),
        role=tables[0].role(score),
        insertion=mean_interval(inserted, seed),
        deletion=mean_interval(deleted, seed),
        beside_random=mean_interval([a - b for a, b in zip(inserted, chance, strict=True)], seed),
        last=mean_interval([overlap(t.values(score), np.tile(last, (len(t.truth), 1)), n) for t in tables], seed),
        chance=n / layers,
        cost=float(np.mean([t.values(score, "cost").mean() for t in tables])),
        **told,
    )


def _placed(
    dataset: str, of: str, tables: Sequence[_ScoredQuestions], seed: int, marked: NDArray[np.bool_]
) -> LayerPlaces:
    values, kinds = [t.standing(of) for t in tables], [t.kinds for t in tables]
    return placed(dataset, of, tables[0].role(of), values, kinds, marked, seed)


def _area(table: _ScoredQuestions, score: str, field: str, points: Sequence[int], layers: int) -> Floats:
    together = torch.tensor([r.together for r in table.truth])
    ends = (0 * together, together) if field == "insertion" else (together, 0 * together)
    found: Floats = area(torch.from_numpy(table.values(score, field)).float(), points, *ends, layers).numpy()
    return found
