"""Read and replace routing, for as long as a ``with`` block lasts.

An *interceptor* sees what the router chose and may set other experts and weights for some rows. Rows it does not name
keep the model's own output, bit for bit. Where that happens is a matter of style, see ``styles.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .mixing import dense
from .sites import Site
from .styles import Change, Decide


class Interceptor(Protocol):
    """What to do with the routing of one MoE layer."""

    def __call__(self, position: int, index: Tensor, weights: Tensor) -> Change | None:
        """Other routing for some rows of one layer, or None to leave them all.

        Args:
            position: of the MoE layer, 0 … L-1.
            index: ``[R, k]`` the experts that the router chose.
            weights: ``[R, k]`` their weights.
        """


@contextmanager
def intercepted(sites: Sequence[Site], interceptor: Interceptor) -> Iterator[None]:
    """Route by ``interceptor`` inside the block; afterwards the model is as it was, also after an exception.

    Raises:
        ModelError: on leaving, if from the first layer that asked on one did not: the routing was not replaced there
            (``torch.compile``?).
    """
    fired: set[int] = set()

    def asking(position: int) -> Decide:
        def decide(index: Tensor, weights: Tensor) -> Change | None:
            fired.add(position)
            return interceptor(position, index, weights)

        return decide

    with ExitStack() as stack:
        for position, site in enumerate(sites):
            for handle in site.style.intercept(site.experts, site.router, asking(position)):
                stack.callback(handle.remove)
        yield
    silent = [s.layer for i, s in enumerate(sites) if i not in fired and i >= min(fired, default=0)]
    if silent:
        raise ModelError(
            f"Expected the model to call its experts while routing was replaced, but no hook fired in layers {silent}: "
            "run the model inside the block, and uncompiled (torch.compile may ignore hooks added later)."
        )


@dataclass(eq=False)
class Recording:
    """What the routers chose during a ``recorded`` block, one entry a layer: that of the last call.

    Attributes:
        weights: per layer ``[R, E]`` the mixing weights really used.
        probabilities: per layer ``[R, E]`` how much the router makes of each expert.
        inputs: per layer ``[R, H]`` the hidden states that the router reads, in float32.
    """

    weights: dict[int, Tensor] = field(default_factory=dict)
    probabilities: dict[int, Tensor] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)

    def stacked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and probabilities ``[R, L, E]``, and inputs ``[R, L, H]``."""
        weights, probabilities, inputs = (
            torch.stack([found[i] for i in sorted(found)], 1)
            for found in (self.weights, self.probabilities, self.inputs)
        )
        return weights, probabilities, inputs


@contextmanager
def recorded(sites: Sequence[Site], rows: Tensor | None = None) -> Iterator[Recording]:
    """Read the routing of tokens that pass inside the block.

    Args:
        sites: the model's MoE layers.
        rows: ``[R]`` which of a call's tokens are read, so that no others are stored; None: every one.
    """
    recording = Recording()

    def of(tokens: Tensor) -> Tensor:
        return tokens if rows is None else tokens[rows.to(tokens.device)]

    def reading(position: int, site: Site) -> Decide:
        def read(index: Tensor, weights: Tensor) -> None:
            recording.weights[position] = dense(of(index), of(weights), site.n_experts).cpu()

        return read

    def scoring(position: int, site: Site) -> Any:
        def score(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            recording.probabilities[position] = of(site.probabilities(output)).cpu()
            read = args[0] if args else next(iter(kwargs.values()))
            recording.inputs[position] = of(read.reshape(-1, read.shape[-1])).float().cpu()

        return score

    with ExitStack() as stack:
        for position, site in enumerate(sites):
            stack.callback(site.router.register_forward_hook(scoring(position, site), with_kwargs=True).remove)
            for handle in site.style.intercept(site.experts, site.router, reading(position, site)):
                stack.callback(handle.remove)
        yield recording
    if len(recording.weights) != len(sites):
        raise ModelError(
            f"Expected routing of {len(sites)} MoE layers, read {len(recording.weights)}: run the model inside the "
            "block, and uncompiled."
        )
