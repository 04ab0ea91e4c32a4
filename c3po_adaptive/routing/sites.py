"""Find where a model routes: its MoE layers, their experts and routers.

Found from structure, not from names: an experts module is called with ``(hidden, index, weights)``. The router is the
class that the model itself records as ``router_logits``, else a sibling called ``gate`` or ``router``. What a layer
then does is not believed but tried: one short forward pass tells how many experts there are and a token uses.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .families import family, of_router
from .modules import hook_after, hooked
from .styles import STYLES, Style

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Scoring = Literal["softmax", "sigmoid", "probabilities"]
ROUTER_NAMES = ("gate", "router")
EVEN, EVEN_IN_HALVES = 0.002, 0.03
"""How far numbers that are the same may be apart, over their mean: in float32, and in half precision."""
WORKING = "c3po models lists the families that work."


@dataclass(frozen=True, eq=False)
class Site:
    """One MoE layer.

    Attributes:
        layer: decoder layer index.
        experts: its experts module.
        router: its router module.
        style: how routing reaches the experts.
        n_experts: E, how many the router chooses among.
        top_k: experts per token.
        logits: place of the router's scores ``[R, E]`` among its outputs.
        scoring: which function of the scores the routing weights are in proportion to.
        renormalized: whether the weights of each token have the same sum; if not, they are scores times one factor.
        proportional: whether the weights are one of the two; if not, others have a share in them (inkling's shared
            experts), or they are no function of the scores alone (phimoe).
        mixable: how many of the E can be mixed: the first ones. (zaya's router has a last choice that is no expert.)
        entered: whether hidden states are all that enters the decoder layer, so that a tail may begin there.
    """

    layer: int
    experts: nn.Module
    router: nn.Module
    style: Style
    n_experts: int
    top_k: int
    logits: int = 0
    entered: bool = True
    scoring: Scoring = "softmax"
    renormalized: bool = False
    proportional: bool = True

    @property
    def mixable(self) -> int:
        return self.n_experts - of_router(self.router).last_is_none

    def probabilities(self, output: Tensor | tuple[Tensor, ...]) -> Tensor:
        """How much the router makes of each expert ``[R, E]``, rows summing to one; 0 for what cannot be mixed."""
        scores = _scored(router_logits(output, self).float(), self.scoring)
        scores = scores * (torch.arange(self.n_experts, device=scores.device) < self.mixable)
        return scores / scores.sum(-1, keepdim=True)


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder's layers, in order: the longest list of modules that it holds."""
    return max(_lists(decoder_of(model)), key=len)


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """The module that runs the decoder layers, whatever the model calls it.

    Raises:
        ModelError: there is none.
    """
    decoder: nn.Module = model.get_decoder()
    for module in decoder.modules():  # some models name themselves, and hold the decoder
        if _lists(module):
            return module
    raise ModelError(
        f"Expected {type(model).__name__} to have decoder layers, found none; use a causal language model."
    )


def _lists(module: nn.Module) -> list[nn.ModuleList]:
    return [child for child in module.children() if isinstance(child, nn.ModuleList)]


def find_sites(model: PreTrainedModel) -> tuple[Site, ...]:
    """Every MoE layer of the model, in order.

    Raises:
        ModelError: the model is dense, or its experts or router cannot be reached, or do not do what is expected.
    """
    found = list(routed_parts(model))
    if not found:
        raise ModelError(no_layers(model))
    # what is offloaded has a hook of accelerate that brings it
    whose = (name for name, m in model.named_modules() if not hasattr(m, "_hf_hook") and _on_meta(m))
    if (empty := next(whose, None)) is not None:
        raise ModelError(
            f"Expected {type(model).__name__} with its weights, got none of {empty}, which is on the meta device; load "
            "them, by from_pretrained for example."
        )
    sites = tuple(_tried(model, found))
    if len(widths := {site.n_experts for site in sites}) > 1:
        raise ModelError(
            f"{type(model).__name__} has MoE layers of {' and '.join(map(str, sorted(widths)))} experts: a pathway "
            f"[L, E] has as many in each. {WORKING}"
        )
    return sites


def _on_meta(module: nn.Module) -> bool:
    return any(own.is_meta for own in module.parameters(recurse=False))


def routed_parts(model: PreTrainedModel) -> Iterator[tuple[int, nn.Module, nn.Module, Style]]:
    """Decoder layer, experts, router and style of every MoE layer, found by the structure alone.

    Raises:
        ModelError: experts whose router cannot be found.
    """
    for index, layer in enumerate(decoder_layers(model)):
        for block in layer.modules():
            yield from ((index, *parts) for parts in _parts(model, index, block))


def moe_layers(model: PreTrainedModel) -> tuple[int, ...]:
    """Decoder layers that hold routed experts, found by the structure alone: no weight is looked at, none is run.

    Raises:
        ModelError: experts whose router cannot be found.
    """
    return tuple(dict.fromkeys(index for index, *_ in routed_parts(model)))


def no_layers(model: PreTrainedModel) -> str:
    """What is said of a model none of whose layers is one, judged by the structure alone."""
    return (
        f"{type(model).__name__} has no MoE layer whose experts are called with (hidden, index, weights), "
        f"{_instead(model)}: re-mixing needs a Mixture-of-Experts model of transformers. {WORKING}"
    )


def _instead(model: PreTrainedModel) -> str:
    """What a model has in the place of experts that can be reached."""
    if any(name.endswith("experts") and isinstance(m, nn.ModuleList) for name, m in model.named_modules()):
        return "its experts are separate modules, called in a loop"
    settings = vars(model.config.get_text_config()).items()
    if any("experts" in key and value for key, value in settings if not key.startswith("_")):
        return "though its configuration speaks of experts"
    return "it is dense"


def _parts(model: PreTrainedModel, index: int, block: nn.Module) -> list[tuple[nn.Module, nn.Module, Style]]:
    """Experts, router and style of a block, if it is one that routes."""
    if _is_around_parameters(block):
        return []
    parts = {name: _inside(child) for name, child in block.named_children()}
    for child in parts.values():
        if (style := of_router(child).style) != "fused":
            return [(parts.get("experts", block), child, STYLES[style])] if not _of_attention(block) else []
    experts = next((m for m in parts.values() if is_experts(m)), None)
    if experts is None:
        return []
    recorded = _recorder(model, "target_class")
    for name, child in parts.items():
        if (recorded is not None and isinstance(child, recorded)) or name in ROUTER_NAMES:
            return [(experts, child, STYLES["fused"])]
    raise ModelError(
        f"The experts of layer {index} of {type(model).__name__} have no router beside them "
        f"({', '.join(ROUTER_NAMES)}): its routing weights cannot be read. {WORKING}"
    )


def _is_around_parameters(module: nn.Module) -> bool:
    """Whether it is PEFT's wrapper of a module with ``target_parameters``, which calls the module itself."""
    return type(module).__name__ == "ParamWrapper"


def _inside(module: nn.Module) -> nn.Module:
    while _is_around_parameters(module):
        module = cast(nn.Module, module.base_layer)
    return module


def blocks_of(model: nn.Module, parts: Sequence[tuple[nn.Module, nn.Module]]) -> list[nn.Module]:
    """For the experts and the router of each MoE layer the smallest module that calls both."""
    names = {id(module): name for name, module in model.named_modules()}
    found = []
    for both in parts:
        paths = zip(*(names[id(part)].split(".") for part in both), strict=False)
        shared = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], paths)]
        found.append(model.get_submodule(".".join(shared)))
    return found


def is_experts(module: nn.Module) -> bool:
    """Whether a module is called with ``(hidden, index, weights)``."""
    names = list(inspect.signature(module.forward).parameters)
    return len(names) == 3 and names[0].startswith("hidden") and "ind" in names[1] and "weight" in names[2]


def _of_attention(block: nn.Module) -> bool:
    """Experts of attention (jetmoe's) are no pathway of the paper's kind."""
    return "MoA" in type(block).__name__


def _recorder(model: PreTrainedModel, field: str) -> Any:
    recorders = getattr(model, "_can_record_outputs", None) or {}
    return getattr(recorders.get("router_logits"), field, None)


@torch.no_grad()
def _tried(model: PreTrainedModel, found: list[tuple[int, nn.Module, nn.Module, Style]]) -> list[Site]:
    """The sites, with the numbers that two tokens showed."""
    chosen: dict[int, tuple[Tensor, Tensor]] = {}
    scores: dict[int, Any] = {}
    calls: Counter[int] = Counter()
    returned: list[Any] = []
    handles = [hook_after(layer, lambda m, a, out: returned.append(out)) for layer in decoder_layers(model)]
    for i, (_, experts, router, style) in enumerate(found):

        def note(index: Tensor, weights: Tensor, i: int = i) -> None:
            calls[i] += 1
            chosen[i] = (index, weights)

        handles += style.intercept(experts, router, note)
        handles.append(hook_after(router, lambda m, a, out, i=i: scores.update({i: out})))
    with hooked(handles):
        try:
            model(input_ids=torch.tensor([[1, 2]]).to(model.device), use_cache=False)
        except Exception as error:
            raise ModelError(
                f"{type(model).__name__} cannot run two tokens: {type(error).__name__}: {error}. {WORKING}"
            ) from error
    entered = all(isinstance(out, Tensor) for out in returned) and family(model.config.model_type).entered
    tried = [_site(model, parts, calls[i], chosen.get(i), scores.get(i), entered) for i, parts in enumerate(found)]
    # In one layer two tokens may be alike by chance, or all experts to a router of equal rows, as merges have them.
    sums, ratios = (sum(spreads) for spreads in zip(*(spreads for _, spreads in tried), strict=True))
    proportional = all(site.proportional for site, _ in tried)
    return [replace(site, renormalized=sums < ratios, proportional=proportional) for site, _ in tried]


def _site(
    model: PreTrainedModel,
    parts: tuple[int, nn.Module, nn.Module, Style],
    calls: int,
    chosen: tuple[Tensor, Tensor] | None,
    scores: Any,
    entered: bool,
) -> tuple[Site, tuple[float, float]]:
    """The site by its own numbers, and how far the tokens' sums of weights are apart, and weights over scores."""
    where = f"MoE layer {parts[0]} of {type(model).__name__}"
    if calls == 1 and scores is None:
        raise ModelError(f"{where} never calls its router: its routing weights cannot be read. {WORKING}")
    if chosen is None or calls != 1:
        raise ModelError(
            f"{where} routed {calls} times in one forward pass, once was expected: a pathway has one place for each "
            f"layer, so it cannot be re-mixed. {WORKING}"
        )
    index, weights = chosen
    outputs = scores if isinstance(scores, tuple) else (scores,)
    place = parts[3].logits if parts[3].logits is not None else _recorder(model, "index") or 0
    logits = outputs[place]
    n_experts = logits.shape[-1]
    rows = logits.numel() // n_experts
    if index.shape != weights.shape or len(index) != 2 or rows != 2 or int(index.max()) >= n_experts:
        raise ModelError(
            f"{where} gave its experts indices {tuple(index.shape)} and weights {tuple(weights.shape)} for two tokens, "
            f"and router scores {tuple(logits.shape)}: its routing cannot be read. {WORKING}"
        )
    even = EVEN if logits.dtype == weights.dtype == torch.float32 else EVEN_IN_HALVES
    logits, weights = logits.reshape(2, n_experts).float(), weights.float()
    scoring = _scoring(logits, index, weights)
    factors = weights / _scored(logits, scoring).gather(1, index)
    sums, ratios = _spread(weights.sum(-1)), _spread(factors)
    found = (scoring, sums < ratios, min(sums, ratios) < even)
    return Site(*parts, n_experts, index.shape[1], place, entered, *found), (sums, ratios)


def _spread(values: Tensor) -> float:
    return float((values.max() - values.min()) / values.abs().mean())


def _scored(logits: Tensor, scoring: Scoring) -> Tensor:
    if scoring == "probabilities":  # early transformers 5.x hand out probabilities already
        return logits
    return logits.softmax(-1) if scoring == "softmax" else logits.sigmoid()


def _scoring(logits: Tensor, index: Tensor, weights: Tensor) -> Scoring:
    """The function that explains the weights: up to a factor, or as they are if a token uses one expert."""
    ready = bool((logits >= 0).all()) and torch.allclose(logits.sum(-1), torch.ones(()).to(logits), atol=1e-3)
    if ready:
        return "probabilities"

    def error(scoring: Scoring) -> float:
        scores = _scored(logits, scoring).gather(1, index)
        if index.shape[1] > 1:
            return float((share(scores) - share(weights)).abs().max())
        return float((scores - weights).abs().max())

    def share(part: Tensor) -> Tensor:
        return part / part.sum(-1, keepdim=True)

    fits = error("sigmoid")  # a sparse mixer (phimoe) fits neither, and has the order of both
    return "sigmoid" if fits < min(0.02, error("softmax")) else "softmax"


def beyond_experts(site: Site) -> str:
    """What is said of a choice that is no expert."""
    return (
        f"Expected experts from 0 to {site.mixable - 1} in MoE layer {site.layer}, got {site.mixable}: the last choice "
        f"of {type(site.router).__name__} is to use no expert; give such a token an expert at weight zero."
    )


def router_logits(output: Tensor | tuple[Tensor, ...], site: Site) -> Tensor:
    """The router's scores ``[R, E]`` among its outputs."""
    part = output[site.logits] if isinstance(output, tuple) else output
    return part.reshape(-1, site.n_experts)


def router_scores(output: Tensor | tuple[Tensor, ...], site: Site) -> Tensor:
    """The same in float32, up to a number for each token; of a router that hands out probabilities their logarithms."""
    found = router_logits(output, site).float()
    return found.log() if site.scoring == "probabilities" else found
