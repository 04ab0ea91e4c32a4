"""Whose pathways are: the model and the texts that they say they are of, alone and in batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ..errors import DataError, SettingError, ShapeError
from ..gate import Gate
from ..routing.states import State
from ..storage.identity import digest, routing_versions
from ..storage.pathway_file import Origin
from ..tasks.texts import listed
from ..types import Pathway, PathwayKind, Scope
from .held import HeldModel
from .names import base_model, public_name

UNKNOWN = "unknown"  # in a hash's place
TOLERANCE = 0.03
"""Of a layer's mass: what rounding to bfloat16 may move."""


def origin_of(model: HeldModel, texts: Sequence[str], *, keep_text: bool) -> Origin:
    """Of a model's pathways, each of a text."""
    revision = getattr(model.model.config, "_commit_hash", None)
    return Origin(
        model=model.fingerprint,
        name=public_name(model.name),
        base_model=base_model(model.name, revision),
        revision=revision,
        dtype=str(model.model.dtype).removeprefix("torch."),
        prompts=tuple(map(digest, texts)),
        texts=tuple(texts) if keep_text else None,
        versions=routing_versions(),
    )


def check_origin(model: HeldModel, pathway: Pathway, text: str | Sequence[str] | None = None) -> None:
    """As ``RoutedModel.check``."""
    origin = pathway.origin
    if origin is not None and origin.model != (ours := model.fingerprint):
        raise DataError(
            f"Expected a pathway of this model ({model.name!r}, {ours}, {model.model.dtype}), got one of "
            f"{origin.name!r} ({origin.model}, {origin.dtype}); load that model with the same dtype and revision, or "
            "make the pathway anew."
        )
    if text is not None and (origin is None or origin.prompts != tuple(map(digest, listed(text)))):
        what = "one that says of none" if origin is None else f"one of {origin.texts or origin.prompts}"
        raise DataError(f"Expected a pathway of {text!r}, got {what}; make the pathway anew.")


def one_batch(model: HeldModel, routing: Pathway | Sequence[Pathway] | None, n: int) -> Pathway | None:
    """One pathway ``[n, L, E]`` of whatever a user passes for n texts.

    Raises:
        ShapeError: it is of another number of samples, layers or experts.
        DataError: it says that it is of another model.
        SettingError: it is something else, such as a trace.
    """
    if routing is None:
        return None
    if isinstance(routing, str):
        raise SettingError(f"Expected a Pathway, or a rule, got {routing!r}; of a text say rule_named({routing!r}).")
    each = [routing] if isinstance(routing, Pathway) or not isinstance(routing, Iterable) else list(routing)
    if other := next((type(one).__name__ for one in each if not isinstance(one, Pathway)), None):
        hint = "a trace is for its own tokens: replay(model, trace) scores them, replaying(model, trace) trains on them"
        hint = hint if other == "Trace" else "model.pathway(text) and Optimizer.optimize(text) make one"
        raise SettingError(f"Expected a Pathway for each text, or a rule, got {other}; {hint}.")
    if not isinstance(routing, Pathway):
        routing = stack_pathways(each)
    elif not routing.batched:
        routing = routing[None]
    expected = (n, len(model.sites), model.n_experts)
    if tuple(routing.router.shape) != expected or routing.layers != model.layers:
        raise ShapeError(
            f"Expected routing (B, L, E) = {expected} for layers {model.layers}, got {tuple(routing.router.shape)} "
            f"for {routing.layers}; give one pathway of this model for each text."
        )
    check_origin(model, routing)
    return routing


def own_pathway(states: Sequence[State], layers: tuple[int, ...], scope: Scope, kind: PathwayKind) -> Pathway:
    """``[B, L, E]`` the model's own, of prefilled texts.

    Raises:
        SettingError: the weights of a layer do not follow from one distribution over experts (phimoe has a softmax for
            each choice, deepseek_v4 chooses by a hash).
    """
    used = torch.stack([state.own for state in states])
    if kind == "weights":
        return Pathway(used, used, layers, scope)
    router, gate = torch.stack([state.router for state in states]), Gate.stacked([state.gate for state in states])
    pathway = Pathway(router, router, layers, scope, gate=gate)
    ranked, own = pathway.weights.sort(-1).values, used.sort(-1).values  # of equals either may be chosen
    off = ((ranked - own).abs().amax(-1) > TOLERANCE * own.sum(-1)).any(0)
    if off.any():
        raise SettingError(
            "Expected routing weights that are the top-k of a distribution over experts, got others in layers "
            f"{[layers[i] for i in off.nonzero().flatten().tolist()]}; use kind='weights' (setting pathway: weights)."
        )
    return pathway


def stack_pathways(pathways: Iterable[Pathway]) -> Pathway:
    """One batched pathway of several ``[L, E]``, which must act alike."""
    parts = list(pathways)
    origins = [p.origin for p in parts if p.origin is not None]
    if len({(p.layers, p.scope, p.top_k, p.gate is None) for p in parts}) != 1 or len({o.model for o in origins}) > 1:
        raise ShapeError("Expected pathways of one model, scope and top_k in one batch; pass them in separate calls.")
    router, own = torch.stack([p.router for p in parts]), torch.stack([p.own for p in parts])
    gates = [p.gate for p in parts if p.gate is not None]
    gate = Gate.stacked(gates) if gates else None
    return Pathway(router, own, parts[0].layers, parts[0].scope, parts[0].top_k, _joined(origins, len(parts)), gate)


def _joined(origins: Sequence[Origin], count: int) -> Origin | None:
    """The origin of a batch of so many; where only some say theirs, of no texts, so that the model is still known."""
    if not origins:
        return None
    if len(origins) < count:
        return origins[0].model_copy(update={"prompts": (UNKNOWN,) * count, "texts": None})
    texts = [text for o in origins for text in o.texts or ()]
    prompts = tuple(prompt for o in origins for prompt in o.prompts)
    return origins[0].model_copy(update={"prompts": prompts, "texts": tuple(texts) if len(texts) == count else None})
