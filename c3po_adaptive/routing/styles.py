"""How a family hands routing to its experts: what is hooked, and how a change of routing is put in.

Nearly all of transformers calls ``experts(hidden, index, weights)``. Three families that apply weights elsewhere are
intercepted at their router instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.hooks import RemovableHandle

from .._printed import in_brief
from .mixing import dense
from .modules import hook_after, hook_before

NONE = -1  # in the place of an expert: a token uses fewer, or was not recorded


@dataclass(frozen=True, eq=False)
class Change:
    """Other routing for some rows.

    Attributes:
        rows: ``[r]`` which; None: all.
        index: ``[r, n]`` their experts, short rows filled up.
        weights: ``[r, n]`` of these experts, zero where filled up.
        used: ``[r]`` how many of the n experts are no filling; None: all of them.
    """

    rows: Tensor | None
    index: Tensor
    weights: Tensor
    used: Tensor | None = None
    __repr__ = in_brief

    @property
    def experts(self) -> Tensor:
        """``[r, n]`` the experts that are used, ``NONE`` in what fills short rows up, which stands behind them."""
        if self.used is None:
            return self.index
        place = torch.arange(self.index.shape[1], device=self.index.device)
        return self.index.masked_fill(place >= self.used.to(self.index.device)[:, None], NONE)

    def over(self, experts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Experts and weights ``[R, n]``, once they are changed."""
        own, new = self.experts.to(experts.device), self.weights.to(weights)
        if self.rows is None:
            return own, new
        width = max(experts.shape[1], own.shape[1])
        rows = self.rows.to(experts.device)
        return (
            widened(experts, width, NONE).index_copy(0, rows, widened(own, width, NONE).to(experts.dtype)),
            widened(weights, width).index_copy(0, rows, widened(new, width)),
        )


Decide = Callable[[Tensor, Tensor], Change | None]
"""From the router's choice, ``index [R, k]`` and ``weights [R, k]``, to another one for some rows, or None."""


class Style(Protocol):
    """One way of handing routing over. ``logits``: their place among the router's outputs; None: as the model says."""

    logits: int | None

    def intercept(self, experts: nn.Module, router: nn.Module, decide: Decide) -> list[RemovableHandle]:
        """Ask ``decide`` at each call of the layer, and do as it says. Rows that it leaves out stay bit for bit."""

    def lasting(self, changes: Sequence[Change]) -> Sequence[Change]:
        """Of those that several have decided in one call, in the order asked, what is put in, one over the other."""


class Fused:
    """``experts(hidden, index, weights)``, all three positional."""

    logits: int | None = None

    def intercept(self, experts: nn.Module, router: nn.Module, decide: Decide) -> list[RemovableHandle]:
        pending: list[Change | None] = []

        def before(module: nn.Module, args: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor] | None:
            hidden, index, weights = args
            change = decide(index, weights)
            pending[:] = [change]
            if change is None or change.rows is not None:
                return None
            return hidden, change.index, change.weights.to(weights.dtype)

        def after(module: nn.Module, args: tuple[Tensor, Tensor, Tensor], output: Tensor) -> Tensor | None:
            change = pending.pop() if pending else None
            if change is None or change.rows is None:
                return None
            hidden, _, weights = args
            rows = hidden.reshape(-1, hidden.shape[-1])[change.rows]
            rows = rows if hidden.ndim == 2 else rows[None]  # dbrx flattens inside
            # Not called: hooks (this one) would run again. A forward that accelerate gave it brings offloaded weights.
            new = module.forward(rows, change.index, change.weights.to(weights.dtype))
            flat = output.reshape(-1, output.shape[-1])
            return flat.index_copy(0, change.rows, new.reshape(-1, flat.shape[1]).to(flat.dtype)).view_as(output)

        return [hook_before(experts, before), hook_after(experts, after)]

    def lasting(self, changes: Sequence[Change]) -> Sequence[Change]:
        return sorted(changes, key=lambda change: change.rows is not None)  # some rows are put in afterwards


class ChosenByRouter:
    """The router returns ``(logits, weights, index)``, of which the block itself runs some experts (longcat_flash)."""

    logits: int | None = 0

    def intercept(self, experts: nn.Module, router: nn.Module, decide: Decide) -> list[RemovableHandle]:
        def after(module: nn.Module, args: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            logits, weights, index = output
            change = decide(index, weights)
            if change is None:
                return None
            index, weights = change.over(index, weights)
            return logits, weights, index.clamp(min=0)  # what fills rows up has weight zero

        return [hook_after(router, after)]

    def lasting(self, changes: Sequence[Change]) -> Sequence[Change]:
        return changes


class DenseScores:
    """The router returns ``scores [R, E]`` that multiply every expert's *input* (llama4)."""

    logits: int | None = 1

    def intercept(self, experts: nn.Module, router: nn.Module, decide: Decide) -> list[RemovableHandle]:
        def after(module: nn.Module, args: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
            scores, logits = output
            top: Any = module.top_k
            index = logits.topk(top, dim=-1).indices
            change = decide(index, scores.gather(1, index))
            if change is None:
                return None
            new = dense(change.index, change.weights, scores.shape[1]).to(scores.dtype)
            return (new if change.rows is None else scores.index_copy(0, change.rows, new)), logits

        return [hook_after(router, after)]

    def lasting(self, changes: Sequence[Change]) -> Sequence[Change]:
        return changes


class SortedGates:
    """The router returns token-expert pairs sorted by expert, and their gates (jetmoe)."""

    logits: int | None = 4

    def intercept(self, experts: nn.Module, router: nn.Module, decide: Decide) -> list[RemovableHandle]:
        def after(module: nn.Module, args: Any, output: tuple[Any, ...]) -> tuple[Any, ...] | None:
            logits, gates = output[4], output[2]
            top: Any = module.top_k
            values, index = logits.topk(top, dim=-1)
            weights = values.softmax(-1).to(gates.dtype)
            change = decide(index, weights)
            if change is None:
                return None
            return (*_pairs(change, index, weights, logits.shape[1]), logits)

        return [hook_after(router, after)]

    def lasting(self, changes: Sequence[Change]) -> Sequence[Change]:
        return changes[-1:]  # all pairs are made again, from the router's own


def widened(part: Tensor, width: int, fill: int = 0) -> Tensor:
    """``[R, n]`` filled up to ``[R, width]``."""
    return pad(part, (0, width - part.shape[1]), value=fill)


STYLES: dict[str, Style] = {
    "fused": Fused(),
    "chosen_by_router": ChosenByRouter(),
    "dense_scores": DenseScores(),
    "sorted_gates": SortedGates(),
}
"""By their names in ``families.yaml``."""


def _pairs(change: Change, index: Tensor, weights: Tensor, n_experts: int) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """All token-expert pairs after a change: order of the sort, token, gate, and how many each expert has."""
    # Pairs of the rows that change, r * n of them, then those of all others, (R - r) * k, as the router made them.
    every = torch.arange(len(index), device=index.device)
    rows = every if change.rows is None else change.rows
    left = torch.ones(len(index), dtype=torch.bool, device=index.device).index_fill(0, rows, False)
    tokens = torch.cat([rows.repeat_interleave(change.index.shape[1]), every[left].repeat_interleave(index.shape[1])])
    experts = torch.cat([change.index.flatten(), index[left].flatten()])
    gates = torch.cat([change.weights.to(weights.dtype).flatten(), weights[left].flatten()])
    order = experts.sort(stable=True).indices  # the experts run one after another, each over its own pairs
    return order, tokens[order], gates[order], torch.bincount(experts, minlength=n_experts).tolist()
