"""Read and replace routing, for as long as a ``with`` block lasts.

An *interceptor* sees what the router chose and may set other experts and weights for some rows. Rows it does not name
keep the model's own output, bit for bit. Where that happens is a matter of style, see ``styles.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import ModelError, ShapeError
from ..gate import Gate
from .gates import Routers
from .mixing import dense
from .modules import hook_after, hook_before, hooked, this_thread
from .sites import Site, beyond_experts
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


Decided = tuple[Tensor, Tensor, Change | None]
"""What an interceptor of a layer was asked, ``index [R, k]`` and ``weights [R, k]``, and what it said."""

_OBSERVED: WeakKeyDictionary[nn.Module, list[tuple[object, list[Decided]]]] = WeakKeyDictionary()
"""Of experts that are observed: of each observer its thread, and what was decided in the call that is running."""


@contextmanager
def intercepted(sites: Sequence[Site], interceptor: Interceptor) -> Iterator[None]:
    """Route by ``interceptor`` inside the block; afterwards the model is as it was, also after an exception.

    Raises:
        ModelError: on leaving, if from the first layer that asked on one did not: the routing was not replaced there
            (``torch.compile``?).
        ShapeError: on a call: an expert that the layer has not (zaya's last choice).
    """
    fired: set[int] = set()

    def asking(position: int) -> Decide:
        site = sites[position]
        last_is_none = site.mixable < site.n_experts

        def decide(index: Tensor, weights: Tensor) -> Change | None:
            fired.add(position)
            change = interceptor(position, index, weights)
            if last_is_none and change is not None and bool((change.index >= site.mixable).any()):
                raise ShapeError(beyond_experts(site))
            for thread, decided in [*_OBSERVED.get(site.experts, ())]:  # other threads change it
                if thread is this_thread():
                    decided.append((index, weights, change))
            return change

        return decide

    with hooked(
        handle
        for position, site in enumerate(sites)
        for handle in site.style.intercept(site.experts, site.router, asking(position))
    ):
        yield
    silent = [s.layer for i, s in enumerate(sites) if i not in fired and i >= min(fired, default=0)]
    if silent:
        raise ModelError(
            f"Expected the model to call its experts while routing was replaced, but no hook fired in layers {silent}: "
            "run the model inside the block, in its thread, uncompiled (torch.compile may ignore hooks added later)."
        )


@contextmanager
def observed(sites: Sequence[Site], see: Callable[[int, Tensor, Tensor], None]) -> Iterator[None]:
    """Inside the block ``see`` is told what each layer has done with its tokens, whoever has replaced routing there.

    Args:
        sites: the model's MoE layers.
        see: gets the position of the MoE layer, experts ``[R, n]``, ``NONE`` where a token uses fewer, and their
            weights, zero there; after the experts were run.

    Raises:
        ModelError: as ``intercepted``.
    """

    def beginning(decided: list[Decided]) -> Callable[..., None]:
        return lambda *_: decided.clear()

    def telling(position: int, site: Site, decided: list[Decided]) -> Callable[..., None]:
        def tell(*called: object) -> None:
            if not decided:  # what decides has raised
                return
            experts, weights, _ = decided[0]
            for change in site.style.lasting([change for _, _, change in decided if change is not None]):
                experts, weights = change.over(experts, weights)
            decided.clear()
            see(position, experts, weights)

        return tell

    with ExitStack() as stack:
        for position, site in enumerate(sites):
            decided: list[Decided] = []
            stack.enter_context(_listed(site.experts, decided))
            handles = [hook_before(site.router, beginning(decided), prepend=True)]
            # Always: where checkpointing runs a layer again, it leaves the experts as soon as it has what it lacked.
            handles.append(hook_after(site.experts, telling(position, site, decided), always_call=True))
            stack.enter_context(hooked(handles))
        stack.enter_context(intercepted(sites, lambda position, index, weights: None))
        yield


@contextmanager
def _listed(experts: nn.Module, decided: list[Decided]) -> Iterator[None]:
    """Inside the block what interceptors decide for these experts is written down, too."""
    lists = _OBSERVED.setdefault(experts, [])
    lists.append((this_thread(), decided))
    try:
        yield
    finally:
        lists[:] = [one for one in lists if one[1] is not decided]


@dataclass(eq=False)
class Recording:
    """What the routers chose during a ``recorded`` block, one entry a layer: that of the last call.

    Attributes:
        weights: per layer ``[R, E]`` the mixing weights really used.
        probabilities: per layer ``[R, E]`` the router's distribution.
        gates: per layer what makes the weights of it.
        inputs: per layer ``[R, H]`` the hidden states that the router reads, in float32.
    """

    weights: dict[int, Tensor] = field(default_factory=dict)
    probabilities: dict[int, Tensor] = field(default_factory=dict)
    gates: dict[int, Gate] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)

    def stacked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and probabilities ``[R, L, E]``, and inputs ``[R, L, H]``."""
        weights, probabilities, inputs = (
            torch.stack([found[i] for i in sorted(found)], 1)
            for found in (self.weights, self.probabilities, self.inputs)
        )
        return weights, probabilities, inputs

    @property
    def gate(self) -> Gate:
        """``[R, L, E]`` of all layers."""
        return Gate.stacked([self.gates[i] for i in sorted(self.gates)], 1)


@contextmanager
def recorded(sites: Sequence[Site], rows: Tensor | None = None) -> Iterator[Recording]:
    """Read the routing of tokens that pass inside the block.

    Args:
        sites: the model's MoE layers.
        rows: ``[R]`` which of a call's tokens are read, so that no others are stored; None: every one.
    """
    recording, routers = Recording(), Routers(sites)

    def reading(position: int, site: Site) -> Decide:
        def read(index: Tensor, weights: Tensor) -> None:
            call, at = routers.take(position), slice(None) if rows is None else rows.to(index.device)
            recording.weights[position] = dense(index[at], weights[at], site.n_experts).cpu()
            probabilities, gate = call.gate(index[at], weights[at], at)
            recording.probabilities[position], recording.gates[position] = probabilities.cpu(), gate.map(Tensor.cpu)
            recording.inputs[position] = call.inputs[at].float().cpu()

        return read

    handles = (
        handle
        for position, site in enumerate(sites)
        for handle in site.style.intercept(site.experts, site.router, reading(position, site))
    )
    with routers.seen(), hooked(handles):
        yield recording
    if len(recording.weights) != len(sites):
        raise ModelError(
            f"Expected routing of {len(sites)} MoE layers, read {len(recording.weights)}: run the model inside the "
            "block, and uncompiled."
        )
