"""Experts in the order of what a set of texts would lose without them, with how sure that order is."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from c3po_adaptive import DataError, RoutedModel, SettingError, borrowed
from c3po_adaptive.study import Progress, silent, write_text

from .ban_cost import ban_costs
from .choice import by_layer, chosen
from .outputs import outputs_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.intp]

RESAMPLES = 999
EXAMPLES = 3
"""Texts that are named of an expert."""
SHOWN = 3
"""Layers at either end, and experts of each, that a ranking prints."""
LEAST, MOST = 2.5, 97.5
"""Percentiles of an interval of 95 %."""


class RankedExpert(NamedTuple):
    """An expert of a layer.

    Attributes:
        layer: decoder layer index.
        expert: its number.
        rank: 1 is the one that its layer would lose least by.
        rank_low: at least, and at most, if other texts of the kind had been drawn (95 %); any, if no text uses it.
        rank_high: see there.
        saliency: its weight times the norm of its output, the mean over the tokens that use it (REAP, arXiv
            2510.13999); 0 if none does.
        saliency_low: of 95 %, over texts.
        saliency_high: see there.
        load: the share of its layer's choices.
        tokens: how many tokens use it.
        texts: how many texts use it.
        most: numbers of the texts that use it most, the first one's being 0.
        ban_cost: how much higher the texts' loss is if it is banned, in nats a token; None: that was not tried.
        ban_low: of 95 %, over texts.
        ban_high: see there.
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
    tokens: int
    texts: int
    most: tuple[int, ...]
    ban_cost: float | None = None
    ban_low: float | None = None
    ban_high: float | None = None


@dataclass(frozen=True, eq=False)
class Ranking:
    """All experts of a model, layer by layer, from the one that would be missed least on.

    Attributes:
        model: its name.
        fingerprint: its identity by every weight.
        texts: how many were read.
        experts: L times E of them.
        resampled: of each layer ``[S, E]`` the ranks of its experts, by number, each time that texts were drawn again.
    """

    model: str
    fingerprint: str
    texts: int
    experts: tuple[RankedExpert, ...]
    resampled: dict[int, Ints] = field(repr=False)

    def __repr__(self) -> str:
        """In a few lines: of some layers the experts that would be missed least on, and most."""
        order = self._order()
        each = [f"  layer {layer}: {_ends(experts)}" for layer, experts in order.items()]
        if len(each) > 2 * SHOWN:
            each[SHOWN:-SHOWN] = ["  …"]
        size = f"{len(order)} layers × {len(self.experts) // max(len(order), 1)} experts"
        return "\n".join([f"Ranking({self.model!r}: {size} by {self.texts} texts, least to most added", *each]) + ")"

    def least(self, share: float) -> dict[int, list[int]]:
        """The experts of each layer that would be missed least, as many as this share of them (0 to 1), by layer.

        Raises:
            SettingError: another share.
        """
        if not 0 <= share <= 1:
            raise SettingError(
                f"Expected a share of a layer's experts from 0 to 1, got {share!r}; of so many say chosen('least:2')."
            )
        return {layer: sorted(each[: round(share * len(each))]) for layer, each in self._order().items()}

    def steady(self, share: float) -> dict[int, float]:
        """How many of those would be among them again if other texts of the kind had been drawn: a share, by layer. Of
        those that no text uses, nothing is known; a layer without others is left out."""
        used = {(one.layer, one.expert) for one in self.experts if one.tokens}
        found = {}
        for layer, each in self.least(share).items():
            if known := [one for one in each if (layer, one) in used]:
                found[layer] = float((self.resampled[layer][:, known] <= len(each)).mean())
        return found

    def rare(self, texts: int) -> list[RankedExpert]:
        """The experts that fewer texts use; ``most`` names these, three at most."""
        return [one for one in self.experts if one.texts < texts]

    def chosen(self, *which: str) -> dict[int, list[int]]:
        """Experts by layer: ``least:2`` or ``most:2`` of each; ``costly:4``, those whose ban costs most, of all layers
        together; or ``3,5@16``.

        Raises:
            SettingError: another text, experts that there are not, or bans that were not tried.
        """
        costs = {(one.layer, one.expert): one.ban_cost for one in self.experts if one.ban_cost is not None}
        return by_layer(chosen(which, self._order(), costs))

    def _order(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for one in self.experts:
            found.setdefault(one.layer, []).append(one.expert)
        return found

    def write(self, path: Path | str) -> None:
        """JSON lines, a row an expert, for what prunes or merges experts; the model's identity in each."""
        whose = {"model": self.model, "fingerprint": self.fingerprint}
        rows = [json.dumps({**one._asdict(), **whose}, ensure_ascii=False) for one in self.experts]
        write_text(path, "\n".join(rows) + "\n")


def _ends(experts: Sequence[int]) -> str:
    """The first and the last of them."""
    if len(experts) <= 2 * SHOWN:
        return ", ".join(map(str, experts))
    first, last = (", ".join(map(str, some)) for some in (experts[:SHOWN], experts[-SHOWN:]))
    return f"{first}, …, {last}"


def rank_experts(
    model: RoutedModel | nn.Module,
    texts: Iterable[str],
    *,
    ban: str | Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Ranking:
    """Rank the experts of each layer by what they add to a set of texts.

    Args:
        model: along whose own routing; from ``load_moe_model``, or of transformers, which is left as it was.
        texts: two at least, which are resampled for intervals; repeated ones count once.
        ban: of which experts it is also tried what their ban costs, each by itself: ``least:2`` or ``most:2`` of each
            layer, or ``3,5@16``; a text or several.
        seed: of the resampling.
        progress: shows how many are read.
        tokenizer: of a model of transformers.

    Raises:
        DataError: no list, fewer than two texts, or one that the model cannot read.
        SettingError: no tokenizer; another text for ``ban``, or experts that there are not.
        ModelError: experts whose outputs cannot be had one by one, or which a rule cannot ban.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        got = f"the text {texts!r:.80}" if isinstance(texts, str) else type(texts).__name__
        raise DataError(
            f"Expected a list of texts, got {got}; give several, or those of a file: texts_of(FILE) of c3po_benchmarks."
        )
    given = list(texts)
    texts = list(dict.fromkeys(given))
    if len(texts) < 2:
        raise DataError(f"Expected two different texts or more, which intervals are over, got {len(texts)}; give more.")
    if (again := len(given) - len(texts)) > 0:
        warnings.warn(f"{again} of {len(given)} texts are given again; each is counted once.", stacklevel=2)
    with borrowed(model, tokenizer) as routed:
        return _ranked(routed, texts, ban, seed, progress)


def _ranked(
    model: RoutedModel, texts: Sequence[str], ban: str | Sequence[str], seed: int, progress: Progress
) -> Ranking:
    chosen(ban, dict.fromkeys(model.layers, range(model.n_experts)))  # refused before texts are read
    each = [outputs_of(model, text) for text in progress(texts, "experts")]
    used, added = (torch.stack([getattr(one, name) for one in each]).numpy() for name in ("used", "added"))
    drawn = np.random.default_rng(seed).multinomial(len(texts), [1 / len(texts)] * len(texts), size=RESAMPLES)
    ranked, resampled = [], {}
    for row, layer in enumerate(model.layers):
        own, resampled[layer] = _of_layer(layer, used[:, row], added[:, row], drawn.astype(float))
        ranked += own
    found = Ranking(model.name, model.fingerprint, len(texts), tuple(ranked), resampled)
    return _with_bans(found, model, texts, ban, seed, progress) if ban else found


def _with_bans(
    ranking: Ranking, model: RoutedModel, texts: Sequence[str], ban: str | Sequence[str], seed: int, progress: Progress
) -> Ranking:
    which = (ban,) if isinstance(ban, str) else ban
    places = [(layer, expert) for layer, some in ranking.chosen(*which).items() for expert in some]
    costs = ban_costs(model, texts, places, seed=seed, progress=progress)
    experts = [
        one._replace(ban_cost=cost.value, ban_low=cost.low, ban_high=cost.high)
        if (cost := costs.get((one.layer, one.expert)))
        else one
        for one in ranking.experts
    ]
    return replace(ranking, experts=tuple(experts))


def _of_layer(layer: int, used: Floats, added: Floats, drawn: Floats) -> tuple[list[RankedExpert], Ints]:
    """The experts of a layer in order, and ``[S, E]`` the rank of each in each resample.

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
    saw, load = used.sum(0) > 0, used.sum(0) / used.sum()
    ranked = [
        RankedExpert(
            layer,
            expert,
            rank,
            int(min(first[expert], rank)) if saw[expert] else 1,
            int(max(last[expert], rank)) if saw[expert] else len(saw),
            float(saliency[expert]),
            float(low[expert]),
            float(high[expert]),
            float(load[expert]),
            int(used[:, expert].sum()),
            int((used[:, expert] > 0).sum()),
            _most(used[:, expert]),
        )
        for rank, expert in enumerate(saliency.argsort(kind="stable").tolist(), 1)
    ]
    return ranked, ranks


def _ratio(added: Floats, used: Floats) -> Floats:
    return np.divide(added, used, out=np.zeros_like(added), where=used > 0)


def _most(used: Floats) -> tuple[int, ...]:
    order = (-used).argsort(kind="stable")[:EXAMPLES]
    return tuple(int(text) for text in order if used[text] > 0)
