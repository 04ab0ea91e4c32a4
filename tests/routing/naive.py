"""Full forward passes without cache, packing or batches: what the package's short cuts are held against.

Every expert is mixed for every token, with the weights that an ``edit(layer, routing [R, E]) -> [R, E]`` makes of the
model's own; experts of weight zero add nothing.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import get_args

import torch

from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.routing.scores import TailScores
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer
from c3po_adaptive.types import Pathway, Scope

FAMILIES = ("olmoe", "qwen2_moe")
SCOPES = get_args(Scope)
Edit = Callable[[int, torch.Tensor], torch.Tensor]


def routed_model(family: str, **config) -> RoutedModel:
    return RoutedModel(tiny_moe(family, **config), tiny_tokenizer(), name=family)


@cache
def shared_model(family: str) -> RoutedModel:
    """One for all tests that do not count, and do not alter it."""
    return routed_model(family)


def tail_scores_of(model: RoutedModel, tails, *args, **kwargs) -> TailScores:
    return TailScores(model.model, model.sites, model.flops, tails, *args, **kwargs)


def moved(pathway: Pathway, layers=(1, 2), seed=0, **changes) -> Pathway:
    """The pathway with random weights on all experts of some layers, their mass kept."""
    noise = torch.randn(pathway.weights.shape, generator=torch.Generator().manual_seed(seed))
    pathway = pathway.used
    weights = pathway.weights.clone()
    rows = list(layers)
    weights[..., rows, :] = (2 * noise).softmax(-1)[..., rows, :] * pathway.own.sum(-1, keepdim=True)[..., rows, :]
    return replace(pathway, router=weights, **changes)


@contextmanager
def edited(model, edit: Edit):
    """The transformers model, with all of its experts mixed as ``edit`` says."""

    def hook_of(layer):
        def hook(module, args):
            hidden, index, weights = args
            n_experts = module.num_experts
            routing = torch.zeros(len(hidden), n_experts, dtype=weights.dtype).scatter(1, index, weights)
            everyone = torch.arange(n_experts).expand(len(hidden), -1)
            return hidden, everyone, edit(layer, routing).to(weights.dtype)

        return hook

    handles = [
        layer.mlp.experts.register_forward_pre_hook(hook_of(i)) for i, layer in enumerate(model.get_decoder().layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def logits(model, ids, edit: Edit | None = None) -> torch.Tensor:
    """``[T, V]`` of one sequence."""
    tokens = torch.tensor([list(ids)])
    if edit is None:
        return model(tokens, use_cache=False).logits[0]
    with edited(model, edit):
        return model(tokens, use_cache=False).logits[0]


def along(weights, own, acting: int, *, scope="answer", transfer="replace", last: int | None = None) -> Edit:
    """ω ``[L, E]`` at token ``acting``, and its change clipped at zero, with the mass kept, at every one after ``last``
    (None: the same), or at all others.

    A layer where ω is ω0 routes by itself, also behind a layer that changed its input.
    """

    def edit(layer, routing):
        if torch.equal(weights[layer], own[layer]):
            return routing
        shifted = (routing + weights[layer] - own[layer]).clamp(min=0)
        shifted = shifted * (routing.sum(-1, keepdim=True) / shifted.sum(-1, keepdim=True))
        here = weights[layer][None] if transfer == "replace" else shifted[acting : acting + 1]
        begin = acting if last is None else last
        prompt, after = shifted if scope == "all" else routing, routing if scope == "last" else shifted
        return torch.cat([prompt[:acting], here, prompt[acting + 1 : begin + 1], after[begin + 1 :]])

    return edit


def choice_scores(model, prompt, edit: Edit | None = None) -> torch.Tensor:
    """Normalized log-likelihood of each option ``[C]``, one full forward an option."""
    start, scores = len(prompt.ids), []
    for option, length, given in zip(
        prompt.options, prompt.lengths, prompt.given or [0] * len(prompt.options), strict=True
    ):
        logs = logits(model, prompt.ids + option, edit)[start - 1 : -1].log_softmax(-1)
        scores.append(logs[range(len(option)), list(option)][given:].sum() / length)
    return torch.stack(scores)


def own_routing(model, ids) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixing weights and router probabilities ``[T, L, E]``, recomputed from the router's weights alone."""
    entries, layers = [], model.get_decoder().layers
    handles = [x.mlp.register_forward_pre_hook(lambda m, args: entries.append(args[0][0])) for x in layers]
    model(torch.tensor([list(ids)]), use_cache=False)
    for handle in handles:
        handle.remove()
    logits_of = [h @ x.mlp.gate.weight.T for h, x in zip(entries, layers, strict=True)]
    probabilities = torch.stack(logits_of, 1).softmax(-1)
    best = probabilities.topk(model.config.num_experts_per_tok, -1)
    weights = torch.zeros_like(probabilities).scatter(-1, best.indices, best.values)
    if model.config.norm_topk_prob:
        weights = weights / weights.sum(-1, keepdim=True)
    return weights, probabilities


def assert_pristine(model) -> None:
    """No hook and no replaced forward is left anywhere in the model."""
    for name, module in model.named_modules():
        assert not module._forward_hooks, name
        assert not module._forward_pre_hooks, name
        assert "forward" not in vars(module), name
