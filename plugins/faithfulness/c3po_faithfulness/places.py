"""Where a score, or what each layer really does, puts each layer, and how far that tells marked layers from others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from c3po_adaptive import bootstrap_interval
from c3po_adaptive.study import Interval, Ours

from .metrics import Floats, places, separation
from .record import Role

RESAMPLED = 2000


class LayerPlaces(Ours):
    """A layer's place is the share of the other layers that stand below it.

    Attributes:
        of: a score, or a truth.
        role: a score's; None: of a truth.
        places: ``[L]`` means over questions.
        marked: how well a question's places separate the marked layers from the others; None: none or all are.
        marked_by_kind: how well the mean places of a kind's questions do; interval over kinds.
        marked_by_all: how well the mean places of all questions do.
    """

    dataset: str
    of: str
    role: Role | None
    places: tuple[float, ...] = Field(min_length=1)
    marked: Interval | None = None
    marked_by_kind: Interval | None = None
    marked_by_all: Interval | None = None


def placed(
    dataset: str,
    of: str,
    role: Role | None,
    values: Sequence[Floats],
    kinds: Sequence[Sequence[str]],
    marked: NDArray[np.bool_],
    seed: int,
) -> LayerPlaces:
    """Of ``values [N, L]`` of each data set's questions, which are of ``kinds [N]``."""
    each = [places(v) for v in values]
    found = LayerPlaces(dataset=dataset, of=of, role=role, places=tuple(_mean(each).round(4).tolist()))
    if not 0 < marked.sum() < len(marked):
        return found
    by_kind = [_mean([p[np.array(k) == kind]]) for p, k in zip(each, kinds, strict=True) for kind in dict.fromkeys(k)]
    rng = np.random.default_rng(seed)
    drawn = [_mean([p[rng.integers(len(p), size=len(p))] for p in each]) for _ in range(RESAMPLED)]
    low, high = np.quantile(separation(np.array(drawn), marked), [0.025, 0.975])
    together = float(separation(_mean(each)[None], marked)[0])
    return found.model_copy(
        update={
            "marked": mean_interval([separation(p, marked) for p in each], seed),
            "marked_by_kind": mean_interval([separation(np.array(by_kind), marked)], seed),
            "marked_by_all": Interval(mean=together, ci_low=float(low), ci_high=float(high)),
        }
    )


def _mean(each: Sequence[Floats]) -> Floats:
    """``[L]`` data sets alike; rounded, so that equal ones are equal."""
    mean: Floats = np.mean([p.mean(0) for p in each], 0).round(9)
    return mean


def mean_interval(strata: Sequence[Floats], seed: int) -> Interval:
    """Of the mean over data sets of their questions' means."""
    low, high = bootstrap_interval(list(strata), seed=seed)
    return Interval(mean=float(np.mean([s.mean() for s in strata])), ci_low=low, ci_high=high)
