"""Many narrow experts: one matrix product over all of them is quicker than a small one for each.

An implementation for transformers' experts interface, beside its ``eager``, ``batched_mm`` and ``grouped_mm``. A row's
routing weights multiply the neurons of all experts, most of them by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from .mixing import dense
from .sites import Site
from .unwritten import Unwritten

DENSE = "c3po_dense"
BRINGING = 128  # neurons whose products take as long as bringing a row to its expert and back (measured on two cores)

_FLAT: WeakKeyDictionary[nn.Module, tuple[tuple[int, int, int], Unwritten, Tensor]] = WeakKeyDictionary()


def dense_experts(self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Outputs ``[R, H]`` of experts; ``hidden_states [R, H]``, ``top_k_index [R, k]``, ``top_k_weights [R, k]``."""
    routing = dense(top_k_index, top_k_weights, self.num_experts).to(hidden_states.dtype)
    up = self.gate_up_proj if self.has_gate else self.up_proj
    bias = (self.gate_up_proj_bias if self.has_gate else self.up_proj_bias).flatten() if self.has_bias else None
    if self.is_transposed:
        inner = torch.einsum("rh,ehi->rei", hidden_states, up).flatten(1)
        inner = inner if bias is None else inner + bias
    else:
        inner = linear(hidden_states, up.flatten(0, 1), bias)
    inner = inner.view(len(hidden_states), self.num_experts, -1)
    inner = self._apply_gate(inner) if self.has_gate else self.act_fn(inner)
    output: Tensor = (inner * routing[..., None]).flatten(1) @ _down(self)
    if self.has_bias:
        output = output + routing @ self.down_proj_bias
    return output


def _down(experts: Any) -> Tensor:
    """The way down of all experts as one matrix ``[E * I, H]``; cached for frozen weights until they are changed.

    What changes are seen ``Unwritten`` says.
    """
    if experts.is_transposed or experts.down_proj.requires_grad:
        flat: Tensor = experts.down_proj if experts.is_transposed else experts.down_proj.transpose(1, 2)
        return flat.flatten(0, 1)
    known, down = _FLAT.get(experts), experts.down_proj
    state = (id(down), down.untyped_storage()._cdata, down._version)  # instead of holds([down]): this is asked often
    if known is None or known[0] != state or known[1].stepped:
        with torch.inference_mode(False), torch.no_grad():
            known = _FLAT[experts] = (state, Unwritten([down]), down.transpose(1, 2).flatten(0, 1))
    return known[2]


def forget_flat(model: nn.Module) -> None:
    """Lay the ways down of its experts side by side anew, when they are asked for."""
    for module in model.modules():
        _FLAT.pop(module, None)


ALL_EXPERTS_FUNCTIONS.register(DENSE, dense_experts)


def run_densely_if_narrow(model: PreTrainedModel, sites: Sequence[Site]) -> None:
    """Choose this implementation for a model on the CPU whose experts are narrow enough."""
    if all(can_run_densely(site) and _narrow(site) for site in sites):
        model.set_experts_implementation(DENSE)


def can_run_densely(site: Site) -> bool:
    """Whether a layer's experts take implementations by name, and nothing but matrices, a bias and a gate, in float32:
    in half precision sums in another order route some tokens otherwise than transformers does, and gain no time.
    """
    experts: Any = site.experts
    return (
        hasattr(experts, "_apply_gate")
        and hasattr(experts, "has_bias")
        and not getattr(experts, "has_post_expert_norm", False)
        and site.mixable == site.n_experts == experts.num_experts
        and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in experts.parameters())
    )


def _narrow(site: Site) -> bool:
    experts: Any = site.experts
    neurons = experts.down_proj.shape[1 if experts.is_transposed else 2]
    return bool(site.n_experts * neurons <= site.top_k * (neurons + BRINGING))
