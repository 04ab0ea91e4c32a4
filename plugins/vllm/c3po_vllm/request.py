"""The pathway that a request to vLLM carries: made by a client, read by the server, a few kilobytes of text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from c3po_adaptive import DataError, ModelError, Pathway, RoutedModel, SettingError, ShapeError
from c3po_adaptive.models.traced import HEAVIEST

from .identity import routers_identity

C = TypeVar("C", bound=BaseModel)
Scope = Literal["last", "answer", "all"]
Transfer = Literal["replace", "shift"]

KEY = "c3po_pathway"
"""Of ``SamplingParams.extra_args``, and of ``vllm_xargs`` over HTTP."""
ACTED = "c3po"
"""Of ``kv_transfer_params`` in an answer: where the pathway acted."""
CARD = "card"
AGAIN = "make it with c3po_vllm.pathway_request(model, pathway)"


class Card(BaseModel):
    """What the text says beside the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    layers: tuple[int, ...]
    scope: Scope
    transfer: Transfer
    top_k: int | None = Field(ge=1)
    prompt_tokens: int | None = Field(ge=1)
    routers: str = Field(pattern="^[0-9a-f]{32}$")


@dataclass(frozen=True, eq=False)
class PathwayRequest:
    """What one request asks of the routing.

    Attributes:
        weights: ``[l, E]`` ω of the layers that change, finite and >= 0.
        own: ``[l, E]`` ω0; Δω is ``weights - own``.
        layers: decoder layer index of each of the l rows, rising.
        scope: whether Δω acts on every answer token too, or on every other token.
        transfer: whether the prompt's last token takes ω in its routing's place, or Δω on top of it.
        top_k: if set, only the k largest weights of a layer are mixed, rescaled to the layer's mass.
        prompt_tokens: how many of the request's tokens are the prompt: ω acts at the last of them, and what follows
            are answer tokens. None: all of the request's prompt. Set it to score a given answer (``prompt_logprobs``).
        routers: of which model, see ``routers_identity``.
    """

    weights: Tensor
    own: Tensor
    layers: tuple[int, ...]
    scope: Scope
    transfer: Transfer
    top_k: int | None
    prompt_tokens: int | None
    routers: str

    def encode(self) -> str:
        """As text: base64 of a safetensors file."""
        card = Card(**{name: getattr(self, name) for name in Card.model_fields if name != "schema_version"})
        tensors = {"weights": self.weights.contiguous(), "own": self.own.clone(memory_format=torch.contiguous_format)}
        return base64.b64encode(save(tensors, {CARD: card.model_dump_json()})).decode()

    @classmethod
    def decode(cls, text: object) -> PathwayRequest:
        """Read what ``encode`` wrote.

        Raises:
            DataError: it is anything else, is cut short, or has NaN, infinite or negative weights.
        """
        tensors, card = parsed(text, KEY, Card, AGAIN)
        weights, own = tensors.get("weights"), tensors.get("own")
        if weights is None or own is None or len(tensors) > 2 or weights.shape != own.shape or weights.ndim != 2:
            shapes = {name: tuple(t.shape) for name, t in sorted(tensors.items())[:3]}
            raise DataError(f"{KEY}: expected weights and own of one shape [l, E], got {shapes}; {AGAIN}.")
        if len(weights) != len(card.layers) or list(card.layers) != sorted(set(card.layers)):
            raise DataError(
                f"{KEY}: expected as many layers, rising, as rows of weights, got layers {list(card.layers)[:9]} for "
                f"{len(weights)} rows; {AGAIN}."
            )
        if card.top_k is not None and card.top_k > weights.shape[1]:
            raise DataError(
                f"{KEY}: expected a top_k of at most {weights.shape[1]}, the experts of a layer, got {card.top_k}; "
                "dataclasses.replace(pathway, top_k=…)."
            )
        for tensor in (weights, own):
            if tensor.dtype != torch.float32 or not ((tensor >= 0) & (tensor <= HEAVIEST)).all():  # NaN is neither
                raise DataError(
                    f"{KEY}: expected float32 routing weights from 0 to {HEAVIEST}, got {tensor.dtype} with NaN, "
                    "infinite, negative or larger ones; clamp them at zero and rescale each layer to its mass, then "
                    f"{AGAIN}."
                )
        said = {name: getattr(card, name) for name in Card.model_fields if name != "schema_version"}
        return cls(weights, own, **said)

    def salt(self, length: int) -> str:
        """The prefix cache's key, for a prompt of so many tokens: differs wherever what is computed may differ."""
        return f"{hashlib.sha256(self.encode().encode()).hexdigest()}-{self.prompt_tokens or length}"

    def reads_cache(self, length: int) -> bool:
        """Whether the prefix cache may lend it what one like it left there, for a prompt of so many tokens.

        Not where it acts before the last of them, which alone is computed in any case: it would not be counted.
        """
        return self.scope != "all" and self.prompt_tokens in (None, length)

    def places(self, acts: int, first: int, last: int) -> Iterator[tuple[int, bool]]:
        """Those among ``first`` to ``last`` where it acts, and whether ω replaces the routing there.

        ``acts`` is that of the prompt's last token.
        """
        if self.layers:
            begin = first if self.scope == "all" else max(first, acts)
            end = min(last, acts + 1) if self.scope == "last" else last
            yield from ((i, i == acts and self.transfer == "replace") for i in range(begin, end))


def parsed(text: object, key: str, kind: type[C], again: str) -> tuple[dict[str, Tensor], C]:
    """Tensors and card of what a request carries.

    Args:
        text: base64 of a safetensors file.
        key: that it stands by.
        kind: of its card.
        again: how to make it, for messages.

    Raises:
        DataError: it is anything else, or cut short.
    """
    if not isinstance(text, str):
        raise DataError(f"{key}: expected text, got {type(text).__name__}; {again}.")
    try:
        data = base64.b64decode(text, validate=True)
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")  # https://github.com/huggingface/safetensors#format
        said = (json.loads(data[8 : 8 + length]).get("__metadata__") or {}).get(CARD, "")
        return tensors, kind.model_validate_json(said)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors())
        raise DataError(f"{key}: expected a card with other keys or values, got {found}; {again}.") from error
    except (binascii.Error, SafetensorError, ValueError, KeyError) as error:  # KeyError: a type that torch has not
        raise DataError(
            f"{key}: expected text of a safetensors file, got what cannot be read ({error}); {again}."
        ) from error


def pathway_request(
    model: RoutedModel, pathway: Pathway, *, transfer: Transfer = "replace", prompt_tokens: int | None = None
) -> dict[str, str]:
    """What a request has to carry to be answered along a pathway: ``SamplingParams(extra_args=…)``, or ``vllm_xargs``.

    Only layers that the pathway changes are sent.

    Args:
        model: whose pathway it is; the server has to serve the same.
        pathway: of one text, ``[L, E]``.
        transfer: ``replace``: the prompt's last token takes ω; ``shift``: it takes Δω on top of its own routing, as for
            a pathway of another text.
        prompt_tokens: how many of the request's tokens are the prompt, where a given answer is part of them.

    Raises:
        ShapeError: a batched pathway, or one of another shape than the model's.
        ModelError: a pathway that says it is of another model, or a model whose routers have no weight matrix.
        SettingError: a transfer that does not exist, or a router's distribution that acts on other tokens, too.
    """
    if pathway.batched:
        raise ShapeError(
            f"Expected the pathway of one text, got {len(pathway.router)} at once; take one a request: pathway[i]."
        )
    expected = (len(model.layers), model.n_experts)
    if tuple(pathway.router.shape) != expected or pathway.layers != model.layers:
        raise ShapeError(
            f"Expected a pathway {list(expected)} of layers {list(model.layers)}, got {list(pathway.router.shape)} of "
            f"layers {list(pathway.layers)}; it is of another model: start from model.pathway(text)."
        )
    if pathway.origin is not None and pathway.origin.model != model.fingerprint:
        raise ModelError(
            f"Expected a pathway of {model.name}, got one of {pathway.origin.name} (other weights); load that model."
        )
    if transfer not in get_args(Transfer):
        raise SettingError(f"Expected transfer to be {' or '.join(get_args(Transfer))}, got {transfer!r}.")
    if pathway.gate is not None and (pathway.scope, transfer) != ("last", "replace"):
        raise SettingError(
            "Expected weights, or scope last: a router's distribution acts on other tokens through their own gates, "
            'which a server does not have; start from model.pathway(text, kind="weights").'
        )
    pathway, moves = pathway.used, pathway.changed()
    layers = tuple(layer for layer, moved in zip(pathway.layers, moves.tolist(), strict=True) if moved)
    weights, own = (t.detach().to("cpu", torch.float32)[moves.cpu()] for t in (pathway.router, pathway.own))
    asked = PathwayRequest(
        weights, own, layers, pathway.scope, transfer, pathway.top_k, prompt_tokens, routers_of(model)
    )
    return {KEY: asked.encode()}


def change_request(
    model: RoutedModel, change: Tensor, *, scope: Scope = "answer", top_k: int | None = None
) -> dict[str, str]:
    """Likewise for a change Δω ``[L, E]`` alone, as references lend it: the question itself is never run here.

    Raises:
        ShapeError: NaN or infinite values, or another shape than the model's.
        ModelError: a model whose routers have no weight matrix.
    """
    if not change.isfinite().all():
        raise ShapeError("Expected a finite change of routing weights, got NaN or infinite ones; leave those out.")
    risen, fallen = change.clamp_min(0), (-change).clamp_min(0)  # their difference is Δω to the last bit
    pathway = Pathway(risen, fallen, model.layers, scope, top_k)
    return pathway_request(model, replace(pathway, origin=None), transfer="shift")


def routers_of(model: RoutedModel) -> str:
    """As a server would tell it, see ``routers_identity``.

    Raises:
        ModelError: routers without a weight matrix.
    """
    found = []
    for site in model.sites:
        weights = [p for p in site.router.parameters() if p.ndim == 2 and len(p) == site.n_experts]
        if len(weights) != 1:
            raise ModelError(
                f"Expected the router of layer {site.layer} to have one weight matrix [E, H], found {len(weights)} in "
                f"{type(site.router).__name__}: a server could not tell whose pathway it gets. Serve OLMoE, DeepSeek, "
                "Qwen or Mixtral."
            )
        found.append(weights[0])
    return routers_identity(found)


def acted(answer: Mapping[str, Mapping[str, int]] | None) -> dict[str, int]:
    """Where the pathway of an answered request acted: ``tokens``, ``layers``, and pairs of both (``acted``).

    Args:
        answer: the answer's ``kv_transfer_params`` (an attribute of ``RequestOutput``, a field over HTTP).

    Raises:
        ModelError: the answer says nothing of it: the server has no plugin, so the pathway was left out.
    """
    counts = (answer or {}).get(ACTED)
    if counts is None:
        raise ModelError(
            "Expected the answer to say where the pathway acted, got nothing: this server does not apply pathways. "
            "Install c3po_vllm beside its vLLM, and let VLLM_PLUGINS name c3po or nothing."
        )
    return dict(counts)
