"""Routers that are told which experts to choose, and weigh them by their own code.

A router scores the experts, chooses some by ``torch.topk``, and makes weights of their scores: each family by a
function, bias, groups and scale of its own. Where the choice alone is replaced, all of that stays the family's, and
gradients reach the router as ever.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import ModelError, ShapeError
from .intercept import intercepted
from .sites import Site, blocks_of
from .styles import Fused

TOPK = (torch.topk, Tensor.topk)
WITH_WEIGHTS = "expert ids alone cannot be replayed there; give the weights that were recorded with them, too."
Choice = Callable[[int, int], tuple[Tensor, Tensor | None]]
"""From a MoE layer (0 … L-1) and R to experts ``[R, k]``, and ``[R]`` bool which rows choose themselves; None: none."""


class _Chosen(TorchFunctionMode):
    """The first ``topk`` over all experts finds those that it is told; one over groups of them, the groups they are in.

    Attributes:
        forced: whether the experts were chosen.
        crowded: ``[]`` bool whether a token's experts lie in more groups than the router takes; None where it has none.
    """

    def __init__(self, experts: Tensor, live: Tensor | None, n_experts: int) -> None:
        super().__init__()
        self.experts, self.live, self.n_experts = experts, live, n_experts
        self.forced = False
        self.crowded: Tensor | None = None
        self.entered = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:
        given: dict[str, Any] = dict(kwargs or {})
        if func not in TOPK or self.forced:
            return func(*args, **given)
        scores: Tensor = args[0] if args else given["input"]
        width, rows = scores.shape[-1], len(self.experts)
        if scores.numel() != rows * width or self.n_experts % width:
            return func(*args, **given)
        if width < self.n_experts:
            groups = self.experts.div(self.n_experts // width, rounding_mode="floor")
            needed = torch.zeros(rows, width, dtype=torch.bool, device=scores.device).scatter(1, groups, True)
            if self.live is not None:
                needed &= ~self.live[:, None]
            first = scores.masked_fill(needed.view_as(scores), torch.inf)
            chosen = func(first, *args[1:], **{k: v for k, v in given.items() if k != "input"}).indices
            self.crowded = needed.sum(-1).max() > chosen.shape[-1]
        else:
            self.forced, chosen = True, self.experts.view(*scores.shape[:-1], -1)
            if self.live is not None:
                own = func(*args, **given).indices
                chosen = torch.where(self.live.view(*scores.shape[:-1], 1), own, chosen)
        return torch.return_types.topk((scores.gather(-1, chosen), chosen))

    def enter(self) -> None:
        super().__enter__()  # type: ignore[no-untyped-call]
        self.entered = True

    def leave(self) -> None:
        if self.entered:
            self.entered = False
            super().__exit__(None, None, None)  # type: ignore[no-untyped-call]


@contextmanager
def choosing(model: nn.Module, sites: Sequence[Site], choice: Choice) -> Iterator[None]:
    """Inside the block routers choose as they are told, and weigh by themselves; differentiable in their parameters.

    Args:
        model: that is run.
        sites: its MoE layers.
        choice: asked each time a router is called.

    Raises:
        ModelError: on a call: a router that does not choose by ``topk``; on leaving: as ``intercepted``.
        ShapeError: on a call: experts in more groups than the router takes.
    """
    # Experts that are looked up by token ids (deepseek_v4's hash routers) are no choice; they have to be those given.
    by_token = ["input_ids" in inspect.signature(site.router.forward).parameters for site in sites]
    running: dict[int, _Chosen] = {}
    looked_at: set[int] = set()

    def entering(position: int, site: Site) -> Callable[..., None]:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else next(iter(kwargs.values()))
            experts, live = choice(position, hidden.shape[:-1].numel())
            experts, live = experts.to(hidden.device), None if live is None else live.to(hidden.device)
            running[position] = _Chosen(experts, live, site.n_experts)
            running[position].forced = by_token[position]
            running[position].enter()

        return enter

    def chosen(position: int, index: Tensor, weights: Tensor) -> None:
        mode = running.pop(position)
        mode.leave()
        if position not in looked_at:  # once a layer: looking waits for the device
            looked_at.add(position)
            _check(sites[position], mode, index)

    def leaving(position: int) -> Callable[..., None]:
        def leave(*_: object) -> None:
            if position in running:  # the layer raised between its router and its experts
                running.pop(position).leave()

        return leave

    def left() -> None:
        for mode in reversed(running.values()):
            mode.leave()

    with ExitStack() as stack:
        stack.callback(left)
        blocks = blocks_of(model, [(site.experts, site.router) for site in sites])
        for (position, site), block in zip(enumerate(sites), blocks, strict=True):
            stack.callback(site.router.register_forward_pre_hook(entering(position, site), with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(leaving(position), always_call=True).remove)
        stack.enter_context(intercepted(sites, chosen))
        yield


def _check(site: Site, mode: _Chosen, index: Tensor) -> None:
    """Refuse a router that did otherwise."""
    router = type(site.router).__name__
    if not mode.forced:
        raise ModelError(
            f"Expected the router of MoE layer {site.layer} to choose its experts by topk, but {router} chooses them "
            f"otherwise: {WITH_WEIGHTS}"
        )
    if mode.crowded is not None and bool(mode.crowded):
        raise ShapeError(
            f"Expected experts of MoE layer {site.layer} in as few groups as {router} takes, got some in more: they "
            "were recorded on another model."
        )
    if not isinstance(site.style, Fused):  # what is handed over has no index of its own to look at
        return
    rows = torch.ones(len(index), dtype=torch.bool, device=index.device) if mode.live is None else ~mode.live
    if not torch.equal(index[rows].sort(-1).values, mode.experts[rows].sort(-1).values.to(index)):
        raise ModelError(
            f"Expected MoE layer {site.layer} to use the experts that it was given, but {router} makes others of them: "
            f"{WITH_WEIGHTS}"
        )
