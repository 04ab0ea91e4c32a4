"""Routes of a batch of padded sequences: which experts each token takes, aligned with the tokens of a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..errors import SettingError, ShapeError
from .styles import NONE, Change, widened
from .trace import HEAVIEST, WHOLE, Trace, repeated


@dataclass(frozen=True, eq=False)
class Layout:
    """What routes have to fit: a model's MoE layers.

    Attributes:
        layers: decoder layer index of each of the L of them.
        decoder_layers: how many there are, MoE layers or not.
        n_experts: E.
        top_k: experts a token.
        device: where the model is.
    """

    layers: tuple[int, ...]
    decoder_layers: int
    n_experts: int
    top_k: int
    device: torch.device


@dataclass(frozen=True, eq=False)
class Sequences:
    """Routes of sequences one by one, without padding, before they are laid beside a call's tokens.

    Attributes:
        experts: of each ``[T_i, L, k]``.
        weights: of each likewise, or None of all.
        tokens: ``[T_i]`` which they are of, where that is known.
    """

    experts: tuple[Tensor, ...]
    weights: tuple[Tensor, ...] | None
    tokens: tuple[Tensor | None, ...]

    def beside(self, real: Tensor, tokens: Tensor | None) -> Routes:
        """Them, each where its sequence is.

        Args:
            real: ``[B, T]`` bool, no padding.
            tokens: ``[B, T]`` ids of the call; None where it took embeddings.

        Raises:
            ShapeError: other numbers of sequences or of tokens.
            SettingError: routes of other tokens.
        """
        lengths = real.sum(1).tolist()
        if len(lengths) != len(self.experts):
            raise ShapeError(f"Expected routes of {len(lengths)} sequences, got {len(self.experts)}; give the batch's.")
        like = self.experts[0]
        experts = torch.full((*real.shape, *like.shape[1:]), NONE, device=real.device)
        weights = None if self.weights is None else torch.zeros(experts.shape, device=real.device)
        for i, length in enumerate(lengths):
            got = len(self.experts[i])
            if got not in (length, length - 1):  # engines give none of the last, after which nothing is predicted
                raise ShapeError(
                    f"Expected routes of the {length} tokens of sequence {i}, or of all but the last, got {got}; give "
                    "those of the same text, without its padding."
                )
            known, places = self.tokens[i], real[i].nonzero().squeeze(1)
            if known is not None and tokens is not None and not torch.equal(known.to(real.device), tokens[i, places]):
                raise SettingError(
                    f"Expected routes of the tokens of sequence {i}, got those of others; keep the order."
                )
            experts[i, places[:got]] = self.experts[i]
            if weights is not None and self.weights is not None:
                weights = weights.index_put((torch.tensor(i, device=real.device), places[:got]), self.weights[i])
        return Routes(experts, weights)


@dataclass(frozen=True, eq=False)
class Routes:
    """Routes of a padded batch.

    Attributes:
        experts: ``[B, T, L, k]`` expert ids, ``NONE`` where a token routes itself, as in its padding.
        weights: ``[B, T, L, k]`` what their outputs are multiplied with; None: as the router weighs them.
    """

    experts: Tensor
    weights: Tensor | None

    def check_size(self, size: tuple[int, ...]) -> None:
        """Refuse a call of other numbers ``(B, T)``.

        Raises:
            ShapeError: with both.
        """
        if size != (wanted := tuple(self.experts.shape[:2])):
            raise ShapeError(
                f"Expected tokens (B, T) = {wanted}, as there are routes for, got {size}; give routes with the batch's "
                "padding, and run whole sequences without a cache."
            )

    def beside(self, real: Tensor, tokens: Tensor | None) -> Routes:
        """Them, as they are aligned already.

        Args:
            real: ``[B, T]`` bool, no padding.
            tokens: ``[B, T]`` ids of the call, which these routes do not know.

        Raises:
            ShapeError: as many as a sequence has tokens (or all but the last), in one piece, that lies elsewhere; or
                those of sequences in another order, which lie in the padding of some, and end early in others.
        """
        there = (self.experts[..., 0] != NONE).any(-1)
        (start, count, whole), (first, length, solid) = _pieces(there), _pieces(real)
        missing = length - count
        alike = whole & solid & ((missing == 0) | (missing == 1))  # else experts in the padding are fillers
        spilled = there & ~real
        wrong = alike & (start != first) & spilled.any(1)
        if wrong.any():
            i = int(wrong.nonzero()[0, 0])
            begin, mirrored = int(first[i]), int(real.shape[1] - length[i] - first[i])
            side, other = ("left", "right") if begin else ("right", "left")
            by = int(start[i]) - begin
            got = f"padded on the {other}" if begin + by == mirrored else f"shifted by {by}"
            raise ShapeError(
                f"Expected routes of sequence {i} padded as its attention mask is, on the {side}, got them {got}: "
                f"{NONE} at {int((real & ~there)[i].sum())} of its tokens, and experts at "
                f"{int(spilled[i].sum())} places of its padding; lay them beside the tokens, with {NONE} in "
                "the padding."
            )
        # On the side of the padding a shorter one ends early. Engines leave out the last token; other holes are meant.
        end = first if first.any() else (length - 2).clamp_min(0)
        cut = solid & (length > 1) & (count > 0) & ~there.gather(1, end[:, None])[:, 0]
        if spilled.any() and (cut.any() or torch.equal(count.sort().values, length.sort().values)):
            i, short = int(spilled.any(1).nonzero()[0, 0]), int((real & ~there).sum(1).argmax())
            raise ShapeError(
                f"Expected routes of each sequence beside its tokens, got experts at {int(spilled[i].sum())} places of "
                f"the padding of sequence {i}, and {NONE} at {int((real & ~there)[short].sum())} tokens of sequence "
                f"{short}: they are in another order, or of another batch. Give them in the batch's order, with {NONE} "
                "in the padding."
            )
        return self

    @cached_property
    def rows(self) -> Tensor:
        """``[L, R, k]`` the experts by MoE layer, expert 0 in the place of none."""
        return self.experts.flatten(0, 1).transpose(0, 1).contiguous().clamp_min(0)

    @cached_property
    def live(self) -> Tensor:
        """``[L, R]`` bool which rows route themselves."""
        return (self.experts[..., 0] == NONE).flatten(0, 1).transpose(0, 1).contiguous()

    @cached_property
    def _any_live(self) -> list[bool]:
        found: list[bool] = self.live.any(1).tolist()
        return found

    @cached_property
    def _heavy(self) -> Tensor:
        """``[L, R, k]`` the weights by MoE layer."""
        weights = torch.ones_like(self.experts, dtype=torch.float32) if self.weights is None else self.weights
        return weights.flatten(0, 1).transpose(0, 1).contiguous()

    def chosen(self, position: int, rows: int) -> tuple[Tensor, Tensor | None]:
        """Experts ``[R, k]`` of a MoE layer, and which of its rows route themselves (None: none).

        Raises:
            ShapeError: a call with another number of rows.
        """
        index = self.rows[position]
        if len(index) != rows:
            raise ShapeError(
                f"Expected {len(index)} tokens in each MoE layer, as there are routes for, got {rows}; run whole "
                "sequences in one call, without a cache."
            )
        return index, self.live[position] if self._any_live[position] else None

    def change(self, position: int, index: Tensor, weights: Tensor) -> Change:
        """The routing of a MoE layer, with weights, where the router took ``index [R, k]`` with ``weights [R, k]``."""
        experts, live = self.chosen(position, len(index))
        forced = self._heavy[position].to(weights.device, weights.dtype)
        experts = experts.to(index.device)
        if live is None:
            return Change(None, experts, forced)
        width = max(experts.shape[1], index.shape[1])
        live = live.to(index.device)[:, None]
        mixed = torch.where(live, _filled(index, width), _filled(experts, width))
        heavy = torch.where(live, widened(weights, width), widened(forced, width))
        used = torch.where(live[:, 0], index.shape[1], experts.shape[1])
        return Change(None, mixed, heavy, None if experts.shape[1] == index.shape[1] else used)


def _pieces(where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``[B]`` where the places of each row of ``[B, T]`` begin, how many they are, and whether they are one piece."""
    start, count = where.long().argmax(1), where.sum(1)
    return start, count, where.shape[1] - where.flip(1).long().argmax(1) - start == count


def _filled(index: Tensor, width: int) -> Tensor:
    """``[R, n]`` filled up to ``[R, width]`` with each row's first."""
    return torch.cat([index, index[:, :1].expand(-1, width - index.shape[1])], 1)


def of_batch(experts: Tensor, weights: Tensor | None, layout: Layout) -> Routes:
    """Routes that are aligned with the padded tokens already: ``[B, T, L, k]``, as engines name experts.

    Raises:
        ShapeError: of other layers or experts, or weights that do not go with them.
    """
    experts, weights = _checked(experts, weights, 4, layout)
    return Routes(experts, weights)


def of_arrays(experts: Sequence[Tensor], weights: Sequence[Tensor] | None, layout: Layout) -> Sequences:
    """Routes of sequences, of each ``[T_i, L, k]``.

    Raises:
        ShapeError: of other layers or experts, or weights that do not go with them.
    """
    if weights is not None and len(weights) != len(experts):
        raise ShapeError(f"Expected weights of {len(experts)} sequences, got {len(weights)}; give those of each.")
    none: Sequence[Tensor | None] = [None] * len(experts)
    parts = [_checked(e, w, 3, layout) for e, w in zip(experts, weights or none, strict=True)]
    if len({part.shape[-1] for part, _ in parts}) > 1:
        raise ShapeError("Expected as many experts a token in every sequence, got others; replay them apart.")
    each = tuple(w for _, w in parts if w is not None)
    return Sequences(tuple(e for e, _ in parts), each if weights is not None else None, (None,) * len(parts))


def of_traces(traces: Sequence[Trace], layout: Layout) -> Sequences:
    """Routes of sequences, of each its trace.

    Raises:
        SettingError: of other layers or another number of experts.
        ShapeError: some with weights and some without; or ids alone, of another number of experts a token.
    """
    for trace in traces:
        if (trace.layers, trace.n_experts) != (layout.layers, layout.n_experts):
            raise SettingError(
                f"Expected traces of MoE layers {layout.layers[0]} to {layout.layers[-1]} with {layout.n_experts} "
                f"experts, got {len(trace.layers)} layers with {trace.n_experts}; record with a model of this kind."
            )
    if len({trace.weights is None for trace in traces}) > 1:
        raise ShapeError(
            "Expected traces that all have weights, or none, got both; dataclasses.replace takes them out."
        )
    weights = [trace.weights for trace in traces if trace.weights is not None] or None
    found = of_arrays([trace.experts for trace in traces], weights, layout)
    return Sequences(found.experts, found.weights, tuple(trace.tokens for trace in traces))


def _checked(experts: Tensor, weights: Tensor | None, ndim: int, layout: Layout) -> tuple[Tensor, Tensor | None]:
    """Them on the model's device, of its MoE layers alone."""
    L, letters = len(layout.layers), "(B, T, L, k)" if ndim == 4 else "(T, L, k)"
    if experts.dtype not in WHOLE:
        raise ShapeError(f"Expected expert ids as whole numbers, got {experts.dtype}; give those that were recorded.")
    got = tuple(experts.shape)
    if len(got) != ndim or got[-2] not in (L, layout.decoder_layers) or not 0 < got[-1] <= layout.n_experts:
        raise ShapeError(
            f"Expected routes {letters} with L = {L} MoE layers (or all {layout.decoder_layers} decoder layers), got "
            f"{got}; give those that a model of this kind recorded."
        )
    if weights is None and got[-1] != layout.top_k:
        raise ShapeError(
            f"Expected {layout.top_k} experts a token, as many as this model's router weighs, got {got[-1]}; give "
            "weights, too, or routes of a model that uses as many."
        )
    if weights is not None and (tuple(weights.shape) != got or not weights.is_floating_point()):
        raise ShapeError(
            f"Expected weights as numbers with a point, in the experts' shape {got}, got {weights.dtype} in "
            f"{tuple(weights.shape)}."
        )
    experts = experts.to(layout.device).long()
    weights = None if weights is None else weights.to(layout.device).float()
    if got[-2] != L:
        experts = experts[..., list(layout.layers), :]
        weights = None if weights is None else weights[..., list(layout.layers), :]
    none = experts == NONE
    _check_ids(experts, none, layout)
    if weights is None:
        _check_recorded(experts, none, layout)
        return experts, None
    weights = weights.masked_fill(none, 0)
    if not ((weights >= 0) & (weights <= HEAVIEST)).all():  # NaN is neither
        raise ShapeError(f"Expected finite weights from 0 to {HEAVIEST}, got NaN, infinite, negative or larger ones.")
    return experts, weights


def _check_ids(experts: Tensor, none: Tensor, layout: Layout) -> None:
    """Refuse what no router of the model chose."""
    beyond = (experts < NONE) | (experts >= layout.n_experts)
    partly = none.any(-1) & ~none.all(-1)
    twice = repeated(experts)
    if not torch.stack([beyond.any(), partly.any(), twice.any()]).any():  # one look, which waits for the device
        return
    if beyond.any():
        raise ShapeError(
            f"Expected experts from 0 to {layout.n_experts - 1}, or {NONE} where a token routes itself, got "
            f"{int(experts.min())} to {int(experts.max())}: they are of another model."
        )
    if partly.any():
        raise ShapeError(
            f"Expected {NONE} for all experts of a token in a layer, or for none, got {experts[partly][0].tolist()}; "
            "give as many experts everywhere."
        )
    raise ShapeError(
        f"Expected different experts in each place, got {experts[twice][0].tolist()}, and alike in {int(twice.sum())} "
        f"of {twice.numel()}: whoever gave these ids did not record them."
    )


def _check_recorded(experts: Tensor, none: Tensor, layout: Layout) -> None:
    """Refuse what buffers that nobody wrote to hold, where one expert a token cannot tell it."""
    if experts.shape[-1] > 1 or layout.n_experts == 1 or bool((experts > 0).any()):
        return
    recorded = ~none[..., 0].flatten(0, -3)
    if all(int(recorded.any(i).sum()) > 1 for i in (0, 1)):
        raise ShapeError("Expected experts, got zeros alone: an engine that records nothing gives those.")
