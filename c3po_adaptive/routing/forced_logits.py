"""Routing from router logits that another engine recorded, by each router's own function, bias, groups and scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from ..errors import ModelError
from .intercept import intercepted
from .sites import WORKING, Site, router_logits


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
        for site, given in zip(sites, logits, strict=True):
            stack.enter_context(_replaced(site, given))
        stack.enter_context(intercepted(sites, read))
        model(input_ids=tokens[None].to(model.device), use_cache=False)
    experts, weights = (torch.stack(parts, 1) for parts in zip(*(found[i] for i in range(len(sites))), strict=True))
    return experts, weights


class _Product(TorchFunctionMode):
    """The first product with E columns is what it is told to be."""

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
def _replaced(site: Site, given: Tensor) -> Iterator[None]:
    """Inside the block a router's logits are those given."""
    entered: list[Any] = []

    def enter(module: nn.Module, args: Any) -> None:
        entered.append(_Product(given.log() if site.scoring == "given" else given))
        entered[-1].__enter__()

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        entered.pop().__exit__(None, None, None)
        made = None if output is None else router_logits(output, site).float()  # None: the router raised
        if made is not None and not torch.allclose(made, given.to(made), rtol=0.02, atol=0.02):
            raise ModelError(
                f"Expected the router of MoE layer {site.layer} to take the logits that it was given, but "
                f"{type(site.router).__name__} makes them otherwise: logits of this family cannot be read back; "
                f"record the trace with this package. {WORKING}"
            )

    handles = [
        site.router.register_forward_pre_hook(enter),
        site.router.register_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
