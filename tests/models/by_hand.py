"""Routing of training steps written out by hand: what ``replaying`` is held against.

In each router the choice is replaced by the experts that are given, and the weights are the family's published function
of the router's scores, written again here; autograd does the rest.
"""

from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch.nn import functional

from c3po_adaptive.routing.sites import find_sites
from c3po_adaptive.testing import tiny_moe


def _of_softmax(router, logits, index):
    return logits.float().softmax(-1).gather(-1, index)


def _of_softmax_renormalized(router, logits, index):
    found = _of_softmax(router, logits, index)
    return found / found.sum(-1, keepdim=True)


def _of_softmax_among_chosen(router, logits, index):
    return logits.gather(-1, index).softmax(-1)


def _of_softmax_scaled(router, logits, index):
    return _of_softmax(router, logits, index) * router.routed_scaling_factor


def _of_sigmoid_renormalized(router, logits, index):
    found = logits.float().sigmoid().gather(-1, index)
    return found / found.sum(-1, keepdim=True) * getattr(router, "routed_scaling_factor", 1)


def _of_sigmoid(router, logits, index):
    return logits.float().sigmoid().gather(-1, index)


def _scaled_by_expert(router, logits, index):
    return _of_softmax_renormalized(router, logits, index) * router.per_expert_scale[index]


FAMILIES: dict[str, tuple[dict, Callable]] = {
    "olmoe": ({}, _of_softmax),
    "qwen3_moe": ({"norm_topk_prob": True}, _of_softmax_renormalized),
    "mixtral": ({}, _of_softmax_renormalized),
    "deepseek_v2": (
        {"topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1, "routed_scaling_factor": 2.5},
        _of_softmax_scaled,
    ),
    "deepseek_v3": ({"routed_scaling_factor": 2.5}, _of_sigmoid_renormalized),
    "gpt_oss": ({}, _of_softmax_among_chosen),
    "llama4_text": ({"num_experts_per_tok": 2}, _of_sigmoid),
    "jetmoe": ({}, _of_softmax_among_chosen),
    "minimax_m2": ({}, _of_sigmoid_renormalized),
    "gemma4_text": ({}, _scaled_by_expert),
    "dbrx": ({}, _of_softmax_renormalized),
}
"""Settings of a tiny model, and how its routers weigh the experts that they chose."""


def model_of(family):
    """A model to be trained, whose biases and scales are not those of the start."""
    settings, _ = FAMILIES[family]
    model = tiny_moe(family, **settings)
    generator = torch.Generator().manual_seed(7)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "bias" in name or "scale" in name:
            with torch.no_grad():
                tensor += 0.3 * torch.rand(tensor.shape, generator=generator)
    return model.requires_grad_(True)


def _dense_scores(weights, index, logits):
    return torch.zeros_like(logits).scatter(-1, index, weights.to(logits.dtype)), logits


def _pairs(weights, index, logits):
    order = index.flatten().sort(stable=True).indices
    sizes = torch.bincount(index.flatten(), minlength=logits.shape[-1]).tolist()
    return order, order // index.shape[1], weights.flatten()[order], sizes, logits


@contextmanager
def chosen_by_hand(model, family, experts):
    """Inside the block tokens of a padded batch take experts ``[B, T, L, k]``; where they are -1, the router's own."""
    weigh = FAMILIES[family][1]
    sites, changed = find_sites(model), []
    for position, site in enumerate(sites):
        router, given = site.router, experts[:, :, position].flatten(0, 1)

        def index_of(own, given=given):
            return torch.where(given < 0, own, given.clamp_min(0))

        if family == "dbrx":
            block = next(m for m in model.modules() if getattr(m, "router", None) is router)

            def routed(logits, block=block, router=router, own=block.route_tokens_to_experts, index_of=index_of):
                index = index_of(own(logits.detach())[1])
                return weigh(router, logits, index), index

            changed.append((block, "route_tokens_to_experts"))
            block.route_tokens_to_experts = routed
            continue

        def forward(hidden, *more, router=router, own=router.forward, index_of=index_of):
            with torch.no_grad():
                made = own(hidden, *more)
            if family == "llama4_text":
                logits = functional.linear(hidden, router.weight)
                index = index_of(made[1].topk(router.top_k).indices)
                return _dense_scores(weigh(router, logits, index), index, logits)
            if family == "jetmoe":
                logits = functional.linear(hidden, router.layer.weight)
                index = index_of(made[4].topk(router.top_k).indices)
                return _pairs(weigh(router, logits, index), index, logits)
            if family == "gemma4_text":
                logits = router.proj(router.norm(hidden) * router.scale * router.scalar_root_size)
            else:
                flat = hidden.reshape(-1, hidden.shape[-1])
                logits = functional.linear(flat, router.weight, getattr(router, "bias", None))
            index = index_of(made[2])
            return logits, weigh(router, logits, index), index

        changed.append((router, "forward"))
        router.forward = forward
    try:
        yield
    finally:
        for module, name in changed:
            delattr(module, name)
