"""Routers whose experts, or whose logits, are prescribed, and that do the rest by their own code.

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
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from ..errors import ModelError, ShapeError
from .intercept import intercepted
from .modules import hook_after, hook_before, hooked
from .sites import WORKING, Site, blocks_of, router_logits
from .styles import Fused

TOPK = (torch.topk, Tensor.topk)
WITH_WEIGHTS = "expert ids alone cannot be replayed there; give the weights that were recorded with them, too."
ExpertsOf = Callable[[int, int], tuple[Tensor, Tensor | None]]
"""From a MoE layer (0 … L-1) and R to experts ``[R, k]``, and ``[R]`` bool which rows choose themselves; None: none."""


class _Chosen(TorchFunctionMode):
    """The first ``topk`` over all experts finds those prescribed; one over groups of them, the groups they are in.

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
        named: dict[str, Any] = dict(kwargs or {})
        if func not in TOPK or self.forced:
            return func(*args, **named)
        scores: Tensor = args[0] if args else named["input"]
        width, rows = scores.shape[-1], len(self.experts)
        if scores.numel() != rows * width or self.n_experts % width:
            return func(*args, **named)
        if width < self.n_experts:
            groups = self.experts.div(self.n_experts // width, rounding_mode="floor")
            needed = torch.zeros(rows, width, dtype=torch.bool, device=scores.device).scatter(1, groups, True)
            if self.live is not None:
                needed &= ~self.live[:, None]
            first = scores.masked_fill(needed.view_as(scores), torch.inf)
            chosen = func(first, *args[1:], **{k: v for k, v in named.items() if k != "input"}).indices
            self.crowded = needed.sum(-1).max() > chosen.shape[-1]
        else:
            self.forced, chosen = True, self.experts.view(*scores.shape[:-1], -1)
            if self.live is not None:
                own = func(*args, **named).indices
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
def choosing(model: nn.Module, sites: Sequence[Site], choice: ExpertsOf) -> Iterator[None]:
    """Inside the block routers choose as ``choice`` says, and weigh by themselves; differentiable in their parameters.

    Args:
        model: that is run.
        sites: its MoE layers.
        choice: asked each time a router is called.

    Raises:
        ModelError: on a call: a router that does not choose by ``topk``; on leaving: as ``intercepted``.
        ShapeError: on a call: experts in more groups than the router takes.
    """
    # Experts that are looked up by token ids (deepseek_v4's hash routers) are no choice; they have to be those.
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

    blocks = blocks_of(model, [(site.experts, site.router) for site in sites])
    handles = [hook_before(site.router, entering(i, site), with_kwargs=True) for i, site in enumerate(sites)]
    handles += [hook_after(block, leaving(i), always_call=True) for i, block in enumerate(blocks)]
    try:
        with hooked(handles), intercepted(sites, chosen):
            yield
    finally:
        for mode in reversed(running.values()):
            mode.leave()


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


@torch.no_grad()
def routing_from_logits(
    model: PreTrainedModel, sites: Sequence[Site], tokens: Tensor, logits: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The experts of each token, and the weights that their outputs are multiplied with: both ``[T, L, k]``.

    The model is run, and in each router its product of hidden state and weight is replaced; what the router makes of
    it is the family's own code.

    Args:
        model: whose routers these are.
        sites: its MoE layers.
        tokens: ``[T]`` token ids.
        logits: of each MoE layer ``[T, E]``, as the router hands them out.

    Raises:
        ModelError: a router that makes its logits in another way, so that they cannot be replaced.
    """
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def read(position: int, index: Tensor, weights: Tensor) -> None:
        found[position] = index.cpu(), weights.float().cpu()

    with ExitStack() as stack:
        for site, recorded in zip(sites, logits, strict=True):
            stack.enter_context(_replaced(site, recorded))
        stack.enter_context(intercepted(sites, read))
        model(input_ids=tokens[None].to(model.device), use_cache=False)
    experts, weights = (torch.stack(parts, 1) for parts in zip(*(found[i] for i in range(len(sites))), strict=True))
    return experts, weights


class _Product(TorchFunctionMode):
    """The first product with E columns is what is prescribed."""

    def __init__(self, result: Tensor) -> None:
        super().__init__()
        self.result: Tensor | None = result

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is functional.linear and self.result is not None and made.numel() == self.result.numel():
            made, self.result = self.result.to(made).view_as(made), None
        return made


@contextmanager
def _replaced(site: Site, recorded: Tensor) -> Iterator[None]:
    """Inside the block a router's logits are those that were recorded."""
    entered: list[Any] = []

    def enter(module: nn.Module, args: Any) -> None:
        entered.append(_Product(recorded.log() if site.scoring == "probabilities" else recorded))
        entered[-1].__enter__()

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        entered.pop().__exit__(None, None, None)
        made = None if output is None else router_logits(output, site).float()  # None: the router raised
        if made is not None and not torch.allclose(made, recorded.to(made), rtol=0.02, atol=0.02):
            raise ModelError(
                f"Expected the router of MoE layer {site.layer} to take the logits that it was given, but "
                f"{type(site.router).__name__} makes them otherwise: logits of this family cannot be read back; "
                f"record the trace with this package. {WORKING}"
            )

    with hooked([hook_before(site.router, enter), hook_after(site.router, leave, always_call=True)]):
        yield
