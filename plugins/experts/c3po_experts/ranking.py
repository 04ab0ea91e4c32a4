"""Experts in the order of what a set of texts would lose without them, with how sure that order is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from c3po_adaptive import DataError, RoutedModel
from c3po_adaptive.study import Progress, silent, write_text

from .outputs import outputs_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 999
EXAMPLES = 3
"""Texts that are named of an expert."""
LEAST, MOST = 2.5, 97.5
"""Percentiles of an interval of 95 %."""


class RankedExpert(NamedTuple):
    """An expert of a layer.

    Attributes:
        layer: decoder layer index.
        expert: its number.
        rank: 1 is the one that its layer would lose least by.
        rank_low: at least, and at most, if other texts of the kind had been drawn (95 %).
        rank_high: see there.
        saliency: its weight times the norm of its output, the mean over the tokens that use it (REAP, arXiv
            2510.13999); 0 if none does.
        saliency_low: of 95 %, over texts.
        saliency_high: see there.
        load: the share of its layer's choices.
        texts: how many texts use it.
        most: numbers of the texts that use it most.
    """

    layer: int
    expert: int
    rank: int
    rank_low: int
    rank_high: int
    saliency: float
    saliency_low: float
    saliency_high: float
    load: float
    texts: int
    most: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Ranking:
    """All experts of a model, layer by layer, from the one that would be missed least on.

    Attributes:
        model: its name.
        fingerprint: its identity by every weight.
        texts: how many were read.
        experts: L times E of them.
    """

    model: str
    fingerprint: str
    texts: int
    experts: tuple[RankedExpert, ...]

    def least(self, share: float) -> dict[int, list[int]]:
        """The experts of each layer that would be missed least, as many as this share of them, by layer."""
        found: dict[int, list[int]] = {}
        for one in self.experts:
            found.setdefault(one.layer, []).append(one.expert)
        return {layer: sorted(experts[: round(share * len(experts))]) for layer, experts in found.items()}

    def write(self, path: Path | str) -> None:
        """JSON lines, a row an expert, for what prunes or merges experts; the model's identity in each."""
        whose = {"model": self.model, "fingerprint": self.fingerprint}
        rows = [json.dumps({**one._asdict(), **whose}, ensure_ascii=False) for one in self.experts]
        write_text(path, "\n".join(rows) + "\n")


def rank_experts(model: RoutedModel, texts: Sequence[str], *, seed: int = 0, progress: Progress = silent) -> Ranking:
    """Rank the experts of each layer by what they add to a set of texts.

    Args:
        model: along whose own routing.
        texts: two at least; their order is resampled for intervals.
        seed: of the resampling.
        progress: shows how many are read.

    Raises:
        DataError: fewer than two texts, or one that the model cannot read.
        ModelError: experts whose outputs cannot be had one by one.
    """
    if len(texts) < 2:
        raise DataError(f"Expected two texts or more, which intervals are over, got {len(texts)}; give more.")
    each = [outputs_of(model, text) for text in progress(texts, "experts")]
    used, added = (torch.stack([getattr(one, name) for one in each]).numpy() for name in ("used", "added"))
    drawn = np.random.default_rng(seed).multinomial(len(texts), [1 / len(texts)] * len(texts), size=RESAMPLES)
    ranked = [
        one
        for row, layer in enumerate(model.layers)
        for one in _of_layer(layer, used[:, row], added[:, row], drawn.astype(float))
    ]
    return Ranking(model.name, model.fingerprint, len(texts), tuple(ranked))


def _of_layer(layer: int, used: Floats, added: Floats, drawn: Floats) -> list[RankedExpert]:
    """The experts of a layer in order.

    Args:
        layer: its index.
        used: ``[N, E]`` tokens of each text that use each expert.
        added: ``[N, E]`` what it adds to them.
        drawn: ``[S, N]`` how often each text is drawn in each resample.
    """
    saliency = _ratio(added.sum(0), used.sum(0))
    again = _ratio(drawn @ added, drawn @ used)
    low, high = np.percentile(again, [LEAST, MOST], axis=0)
    ranks = 1 + again.argsort(1, kind="stable").argsort(1, kind="stable")
    first, last = np.percentile(ranks, [LEAST, MOST], axis=0, method="nearest")
    load = used.sum(0) / used.sum()
    return [
        RankedExpert(
            layer,
            expert,
            rank,
            int(min(first[expert], rank)),
            int(max(last[expert], rank)),
            float(saliency[expert]),
            float(low[expert]),
            float(high[expert]),
            float(load[expert]),
            int((used[:, expert] > 0).sum()),
            _most(used[:, expert]),
        )
        for rank, expert in enumerate(saliency.argsort(kind="stable").tolist(), 1)
    ]


def _ratio(added: Floats, used: Floats) -> Floats:
    return np.divide(added, used, out=np.zeros_like(added), where=used > 0)


def _most(used: Floats) -> tuple[int, ...]:
    order = (-used).argsort(kind="stable")[:EXAMPLES]
    return tuple(int(text) for text in order if used[text] > 0)
