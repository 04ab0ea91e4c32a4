"""Two sets of routes of the same texts: by how much they agree, in which layers, at which tokens, how near to a tie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from os.path import isdir, isfile  # of a name that none can have it says no
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from c3po_adaptive import DataError, SettingError, borrowed, over_values, read_routing
from c3po_adaptive.errors import checked_call
from c3po_adaptive.models.traced import Trace, compared, is_trace, read_trace, record, recorded_in_both
from c3po_adaptive.study import Progress, silent

from .agreement_words import UNKNOWN, in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from c3po_adaptive import RoutedModel

    Floats = NDArray[np.float64]
    Traces = Trace | str | Path | Sequence[Trace | str | Path]

QUARTERS = 4
"""Of all places, from those nearest to a tie on."""


class Mean(NamedTuple):
    """A mean over texts, each counted once, with its interval of 95 %; NaN at both ends for one text."""

    value: float
    low: float
    high: float


class Part(NamedTuple):
    """Some places (a token in a layer), and what is the same there.

    Attributes:
        name: which they are.
        places: how many.
        experts: the share of the one's experts that the other uses, too.
        same: the share of places where the sets of experts are the same.
        chance: ``experts``, if the other drew as many at random.
    """

    name: str
    places: int
    experts: float
    same: float
    chance: float


class Beginning(NamedTuple):
    """Where two routes of a text first use other experts: its number, the token's place and text, the decoder layer."""

    text: int
    token: int
    piece: str
    layer: int


@dataclass(frozen=True, eq=False)
class Agreement:
    """Two sets of routes held against each other, at places that both recorded.

    Attributes:
        names: of the two models; where they are called alike, with the dtype of each.
        layers: decoder layer index of each of the L rows.
        texts: how many pairs there are.
        experts: the share of the one's experts that the other uses, too.
        chance: that share, if the other drew as many at random.
        same: the share of places where the sets of experts are the same.
        weights: of those that have weights: half the sum of differences of the experts' shares of a token's weight.
        nats: with a model: what the other's routes make of a token's log-likelihood, less what the one's make of it.
        by_layer: a part a layer.
        by_token: by a token's place in its text, in doubling steps.
        by_margin: with a model: quarters of all places by how far its k-th best router score is above the next, from
            those nearest to a tie on.
        load: ``[L]`` the share of the load that is on other experts (total variation).
        beginnings: where each text that differs first does.
    """

    names: tuple[str, str]
    layers: tuple[int, ...]
    texts: int
    experts: Mean
    chance: float
    same: Mean
    weights: Mean | None
    nats: Mean | None
    by_layer: tuple[Part, ...]
    by_token: tuple[Part, ...]
    by_margin: tuple[Part, ...]
    load: tuple[float, ...]
    beginnings: tuple[Beginning, ...]

    def __repr__(self) -> str:
        """In a few lines."""
        return in_words(self)

    def plot(self) -> Figure:
        """What is the same, by layer, token and margin, as a figure."""
        from .agreement_picture import agreement_picture

        return agreement_picture(self)

    def values(self) -> dict[str, object]:
        """All of it, plain."""
        parts = {
            name: [part._asdict() for part in getattr(self, name)] for name in ("by_layer", "by_token", "by_margin")
        }
        means = {
            name: None if (mean := getattr(self, name)) is None else mean._asdict()
            for name in ("experts", "same", "weights", "nats")
        }
        whose = {"one": self.names[0], "other": self.names[1], "texts": self.texts, "chance": self.chance}
        load = dict(zip(map(str, self.layers), self.load, strict=True))
        begin = {"beginnings": [one._asdict() for one in self.beginnings], "pieces": dict(self.pieces())}
        return {**whose, **means, **parts, "load": load, **begin}

    def pieces(self, count: int = 5) -> list[tuple[str, int]]:
        """The tokens at which texts begin to differ most often."""
        return Counter(one.piece for one in self.beginnings).most_common(count)


@checked_call
def agreement(
    one: Traces | Iterable[tuple[Trace, Trace]],
    other: Traces | None = None,
    model: RoutedModel | nn.Module | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Agreement:
    """How far two sets of routes agree; ``print`` it, ``plot`` it, or take its ``values``.

    Args:
        one: a trace, a file or a folder of traces, or several of these; or, without another, pairs of traces of the
            same tokens, as ``paired`` finds them.
        other: likewise, of the same tokens.
        model: the one's, to tell what other experts cost in log-likelihood, and how near to a tie its router was; from
            ``load_moe_model``, or of transformers, which is left as it was.
        tokenizer: of a model of transformers.

    Raises:
        SettingError: one set alone, no pair, or traces without a partner; pairs of several models; two traces that
            cannot be held against each other; a model without its tokenizer.
        DataError: no traces, or damaged ones; tokens that the model cannot read.
    """
    pairs = _as_pairs(one) if other is None else partners(one, other)
    sums: _Sums | None = None
    with nullcontext() if model is None else borrowed(model, tokenizer) as routed:
        for first, second in pairs:
            sums = sums or _Sums(first, second)
            sums.add(first, second, routed)
    if sums is None:
        raise SettingError("Expected two sets with traces of the same tokens, got none in both; record the same texts.")
    return sums.told()


def _as_pairs(given: object) -> Iterator[tuple[Trace, Trace]]:
    """What are pairs already.

    Raises:
        SettingError: it is one set.
    """
    for pair in given if isinstance(given, Iterable) else [given]:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise SettingError(
                f"Expected two sets of traces, got one, with a {type(pair).__name__}; give the other: agreement(one, "
                "other)."
            )
        yield pair


def partners(one: object, other: object) -> list[tuple[Trace, Trace]]:
    """Of two sets, each as ``traces_in`` takes it, the traces of the same tokens.

    Raises:
        SettingError: some have no partner.
        DataError: as ``traces_in``.
    """
    pairs, alone = paired(traces_in(one), traces_in(other))
    if alone:
        sets = [str(each) if isinstance(each, str | Path) else "the set" for each in (one, other)]
        raise SettingError(
            f"Expected traces of the same tokens in {sets[0]} and {sets[1]}, got {alone} without a partner beside "
            f"{len(pairs)} pairs; record the same texts with both, without --generate, or move those away."
        )
    return pairs


def paired(one: Iterable[Trace], other: Iterable[Trace]) -> tuple[list[tuple[Trace, Trace]], int]:
    """Traces of two sets that are of the same tokens, in the one's order; and how many of both have no partner."""
    known: dict[tuple[int, ...], list[Trace]] = {}
    for trace in other:
        known.setdefault(tuple(trace.tokens.tolist()), []).append(trace)
    found, alone = [], 0
    for trace in one:
        if partners := known.get(tuple(trace.tokens.tolist())):
            found.append((trace, partners.pop(0)))
        else:
            alone += 1
    return found, alone + sum(map(len, known.values()))


def traces_in(source: object) -> list[Trace]:
    """The traces of a file, or of all files of a folder and its folders; a trace itself; or those of several of these.

    Raises:
        DataError: something else, there are none, or some are damaged.
    """
    if isinstance(source, Trace):
        return [source]
    if isinstance(source, list | tuple):
        return [trace for part in source for trace in traces_in(part)]
    if not isinstance(source, str | Path):
        raise DataError(
            f"Expected traces, or files or folders of them, got {type(source).__name__}; record(model, texts) makes "
            "traces, and a model is given as model=…."
        )
    path = Path(source)
    below = sorted(path.rglob("*.parquet")) if isdir(path) else []
    files = [path] if isfile(path) else [file for file in below if is_trace(file)]
    if not files:
        raise DataError(
            f"Expected traces in {str(source)!r:.80}, got none; c3po trace record writes them, and two models are "
            "compared with --texts."
        )
    return [read_trace(file) for file in files]


def recorded_by(model: RoutedModel, texts: Sequence[str], progress: Progress = silent) -> list[Trace]:
    """A trace a text, along the model's own routing.

    Raises:
        DataError: a text of fewer than two tokens, or of more than the model can read.
    """
    return [record(model, text) for text in progress(texts, f"routes of {model.name}")]


@dataclass(eq=False)
class _Sums:
    """What is known so far.

    Attributes:
        first: the one's first trace, whose layers, experts and model all others have.
        second: the other's.
        shares: of each text ``[T, L]`` the share of experts that both use; NaN where one was not recorded.
        same: likewise whether the sets are the same.
        chances: likewise the share, if the other drew as many at random.
        margins: of each text ``[T, L]``, with a model.
        moved: of each text the mean weight on other experts.
        nats: of each text the mean change of log-likelihood, with a model.
        beginnings: of texts that differ.
    """

    first: Trace
    second: Trace
    shares: list[Tensor] = field(default_factory=list)
    same: list[Tensor] = field(default_factory=list)
    chances: list[Tensor] = field(default_factory=list)
    margins: list[Tensor] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    beginnings: list[Beginning] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loads = torch.zeros(2, len(self.first.layers), self.first.n_experts, dtype=torch.float64)

    def add(self, one: Trace, other: Trace, model: RoutedModel | None) -> None:
        for trace, known in ((one, self.first), (other, self.second)):
            if (trace.layers, trace.n_experts, trace.model, trace.name) != (
                *(known.layers, known.n_experts, known.model, known.name),
            ):
                raise SettingError(
                    f"Expected routes of one model in a set, got those of {known.name or 'an unknown model'} and of "
                    f"{trace.name or 'an unknown model'}; hold them against each other one by one."
                )
        both = recorded_in_both(one, other)
        used = torch.stack([_used(trace) for trace in (one, other)])
        kept = (used[0] & used[1]).sum(-1) / used[0].sum(-1).clamp_min(1)
        same = (used[0] == used[1]).all(-1)
        self.shares.append(kept.double().masked_fill(~both, torch.nan))
        self.same.append(same.double().masked_fill(~both, torch.nan))
        self.chances.append(used[1].double().mean(-1).masked_fill(~both, torch.nan))
        self.loads += (used & both[..., None]).sum(1)
        self._note_beginning(one, both & ~same)
        if one.weights is not None and other.weights is not None:
            shares = _weighed(one, one.weights), _weighed(other, other.weights)
            apart = (shares[0] - shares[1]).abs().sum(-1) / 2
            self.moved.append(float(apart[both].mean()))
        if model is not None:
            before, after = compared(model, one, other)
            self.nats.append(float((after - before)[both[:-1].any(1)].mean()))
            self.margins.append(_margins(model, one))

    def _note_beginning(self, trace: Trace, other: Tensor) -> None:
        if places := other.nonzero().tolist():
            token, row = places[0]
            number = int(trace.tokens[token])
            piece = trace.pieces.get(number, str(number))
            self.beginnings.append(Beginning(len(self.shares) - 1, token, piece, trace.layers[row]))

    def told(self) -> Agreement:
        each = self._places()
        loads = self.loads / self.loads.sum(-1, keepdim=True).clamp_min(1)
        return Agreement(
            names=_told_apart(self.first, self.second),
            layers=self.first.layers,
            texts=len(self.shares),
            experts=_share([float(one.nanmean()) for one in self.shares]),
            chance=_mean([float(one.nanmean()) for one in self.chances]).value,
            same=_share([float(one.nanmean()) for one in self.same]),
            weights=_share(self.moved) if len(self.moved) == len(self.shares) else None,
            nats=_mean(self.nats) if self.nats else None,
            by_layer=tuple(_part(str(layer), each[:, :, row]) for row, layer in enumerate(self.first.layers)),
            by_token=tuple(self._by_token()),
            by_margin=tuple(self._by_margin()),
            load=tuple(((loads[0] - loads[1]).abs().sum(-1) / 2).tolist()),
            beginnings=tuple(self.beginnings),
        )

    def _places(self) -> Tensor:
        """``[3, T, L]`` of all texts' tokens: shares, whether the sets are the same, shares by chance."""
        return torch.stack([torch.cat(each) for each in (self.shares, self.same, self.chances)])

    def _by_token(self) -> Iterable[Part]:
        places = torch.cat([torch.arange(len(one)) for one in self.shares])
        each, first = self._places(), 0
        while first < len(places) and (at := (places >= first) & (places < 2 * first + 1)).any():
            last = 2 * first
            part = _part(str(first) if first == last else f"{first} to {last}", each[:, at])
            if part.places:
                yield part
            first = last + 1

    def _by_margin(self) -> Iterable[Part]:
        if not self.margins:
            return
        each, margins = self._places().flatten(1), torch.cat(self.margins).flatten()
        known = ~each[0].isnan() & ~margins.isnan()
        each, margins = each[:, known], margins[known]
        for part in margins.argsort(stable=True).chunk(QUARTERS):
            low, high = margins[part[0]], margins[part[-1]]
            yield _part(f"{low:.2f} to {high:.2f}", each[:, part])


def _told_apart(one: Trace, other: Trace) -> tuple[str, str]:
    """Names of two models, with their dtypes where these alone tell them apart."""
    if one.name != other.name or one.dtype == other.dtype:
        return one.name, other.name
    first, second = (f"{trace.name or UNKNOWN} in {trace.dtype or 'an unknown dtype'}" for trace in (one, other))
    return first, second


def _used(trace: Trace) -> Tensor:
    """``[T, L, E]`` bool."""
    there = trace.experts >= 0
    if trace.weights is not None:
        there = there & (trace.weights > 0)
    marks = torch.zeros(*trace.experts.shape[:2], trace.n_experts + 1, dtype=torch.bool)
    return marks.scatter(2, torch.where(there, trace.experts, trace.n_experts), torch.ones_like(there))[..., :-1]


def _weighed(trace: Trace, by: Tensor) -> Tensor:
    """``[T, L, E]`` each expert's share of a token's weight, by weights ``[T, L, k]``."""
    weights = by.detach().double() * (trace.experts >= 0)
    found = torch.zeros(*trace.experts.shape[:2], trace.n_experts, dtype=torch.float64)
    found.scatter_add_(2, trace.experts.clamp_min(0), weights)
    return found / found.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)


def _margins(model: RoutedModel, trace: Trace) -> Tensor:
    """``[T, L]`` by how much the model's own k-th best router score is above the next."""
    with torch.no_grad():
        read = read_routing(model, {"input_ids": trace.tokens[None]})
    k = read.experts.shape[-1]
    if read.logits.shape[-1] == k:
        return torch.full(read.logits.shape[1:3], torch.nan)
    best = read.logits[0].cpu().topk(k + 1, -1).values
    return best[..., -2] - best[..., -1]


def _part(name: str, each: Tensor) -> Part:
    return Part(name, int((~each[0].isnan()).sum()), *(float(one.nanmean()) for one in each))


def _mean(values: Sequence[float]) -> Mean:
    each: Floats = np.array(values, dtype=float)
    if len(each) < 2:
        return Mean(float(each.mean()), float("nan"), float("nan"))
    found = over_values(each[:, None], seed=0)
    return Mean(float(each.mean()), found.low, found.high)


def _share(values: Sequence[float]) -> Mean:
    """A mean that is between 0 and 1, as its interval is."""
    found = _mean(values)
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0)) if found.low == found.low else found
