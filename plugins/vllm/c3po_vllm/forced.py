"""A routing trace that a request to vLLM carries: the experts of every token of its prompt, forced there."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save
from torch import Tensor

from c3po_adaptive import Change, DataError, ModelError, RoutedModel, ShapeError
from c3po_adaptive.models.traced import LIMIT, Trace, check_text

from .request import CARD, parsed, routers_of

TRACE_KEY = "c3po_trace"
"""Of ``SamplingParams.extra_args``, and of ``vllm_xargs`` over HTTP."""
AGAIN = "make it with c3po_vllm.trace_request(model, trace)"
TYPES = {"tokens": torch.int32, "experts": torch.int16, "weights": torch.float32}
"""Of the tensors that a request holds."""


class TraceCard(BaseModel):
    """What the text says beside the tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    layers: tuple[int, ...]
    n_experts: int = Field(ge=1, lt=LIMIT)
    routers: str = Field(pattern="^[0-9a-f]{32}$")


@dataclass(frozen=True, eq=False)
class TraceRequest:
    """What one request asks of the routing, token by token.

    Attributes:
        trace: with weights, of the first tokens of the request's prompt.
        routers: of which model, see ``routers_identity``.
    """

    trace: Trace
    routers: str

    @property
    def layers(self) -> tuple[int, ...]:
        """Decoder layer index of each row."""
        return self.trace.layers

    @property
    def weights(self) -> Tensor:
        """``[T, L, k]`` what its experts' outputs are multiplied with.

        Raises:
            ShapeError: the trace has expert ids alone.
        """
        if self.trace.weights is None:
            raise ShapeError(
                "Expected a trace with weights, got expert ids alone; record it with this model, or import router "
                "logits."
            )
        return self.trace.weights

    @property
    def most(self) -> int:
        """How many experts a token mixes in a layer."""
        return self.trace.experts.shape[-1]

    def encode(self) -> str:
        """As text: base64 of a safetensors file."""
        trace = self.trace
        card = TraceCard(layers=trace.layers, n_experts=trace.n_experts, routers=self.routers)
        tensors = {"tokens": trace.tokens, "experts": trace.experts, "weights": self.weights.detach()}
        typed = {name: t.to(TYPES[name]).contiguous() for name, t in tensors.items()}
        packed = save(typed, {CARD: card.model_dump_json()})
        return base64.b64encode(packed).decode()

    @classmethod
    def decode(cls, text: object) -> TraceRequest:
        """Read what ``encode`` wrote.

        Raises:
            DataError: it is anything else, is cut short, or is no trace.
        """
        tensors, card = parsed(text, TRACE_KEY, TraceCard, AGAIN)
        if {name: t.dtype for name, t in tensors.items()} != TYPES or tensors["tokens"].ndim != 1:
            shapes = {name: (t.dtype, tuple(t.shape)) for name, t in sorted(tensors.items())[:4]}
            raise DataError(
                f"{TRACE_KEY}: expected tokens [T] of int32, experts of int16 and weights of float32, got {shapes}; "
                f"{AGAIN}."
            )
        tokens, experts, weights = tensors["tokens"].long(), tensors["experts"].long(), tensors["weights"]
        try:
            return cls(Trace(tokens, card.layers, experts, weights, card.n_experts), card.routers)
        except ShapeError as error:
            raise DataError(f"{TRACE_KEY}: {error} Then {AGAIN}.") from error

    def check_prompt(self, ids: Sequence[int]) -> None:
        """Refuse a trace of other tokens than the prompt's first ones.

        Raises:
            DataError: with the first place where they part.
        """
        traced = self.trace.tokens.tolist()
        if len(traced) > len(ids):
            raise DataError(
                f"{TRACE_KEY}: expected a trace of at most the prompt's {len(ids)} tokens, got {len(traced)}; give all "
                "its tokens as the prompt (with prompt_logprobs to score them)."
            )
        for place, (one, other) in enumerate(zip(traced, ids, strict=False)):
            if one != other:
                raise DataError(
                    f"{TRACE_KEY}: expected a trace of the prompt's own tokens, got {one} at place {place}, where the "
                    f"prompt has {other}; it is of another text or tokenizer."
                )

    def salt(self, length: int) -> str:
        """Another each time: nothing of it is left in the prefix cache for others."""
        return f"trace-{uuid4().hex}"

    def reads_cache(self, length: int) -> bool:
        """Never: what was found there would not be forced again, nor counted."""
        return False

    def places(self, acts: int, first: int, last: int) -> Iterator[tuple[int, bool]]:
        """Those among ``first`` to ``last`` at which some layer is forced."""
        end = min(last, len(self.trace.tokens))
        if first < end:
            there = self.trace.recorded[first:end].any(1).tolist()
            yield from ((first + i, True) for i, recorded in enumerate(there) if recorded)


@dataclass(frozen=True, eq=False)
class Forced:
    """A rule of one step: rows that take a trace's experts.

    Attributes:
        asked: whose trace.
        rows: ``[n]`` of the step.
        place: ``[n]`` of the trace, of each row.
        position: of each layer of the step in the trace; None: not in it.
    """

    asked: TraceRequest
    rows: Tensor
    place: Tensor
    position: tuple[int | None, ...]

    @classmethod
    def of(cls, asked: TraceRequest, rows: Sequence[tuple[int, int]], layers: Sequence[int]) -> Forced:
        """For rows, each with its place, and the step's layers."""
        at, place = torch.tensor(list(rows)).unbind(1)
        known = {layer: i for i, layer in enumerate(asked.layers)}
        return cls(asked, at, place, tuple(known.get(layer) for layer in layers))

    def __call__(self, position: int, index: Tensor, weights: Tensor) -> Change | None:
        layer = self.position[position]
        if layer is None:
            return None
        trace, weights_of = self.asked.trace, self.asked.weights
        there = trace.recorded[self.place, layer]
        if not there.any():
            return None
        place = self.place[there]
        own, mixed = trace.experts[place, layer], weights_of[place, layer]
        return Change(self.rows[there].to(index.device), own.to(index.device), mixed.to(weights))


def trace_request(model: RoutedModel, trace: Trace) -> dict[str, str]:
    """What a request has to carry for its prompt to be read along a trace: ``SamplingParams(extra_args=…)``, or
    ``vllm_xargs``. Its prompt has to begin with the trace's tokens; tokens after those are routed by the model.

    Args:
        model: that the server serves.
        trace: of the prompt, or of its beginning, with weights.

    Raises:
        ShapeError: a trace of other layers or another number of experts, without any token, or of expert ids alone.
        DataError: a trace of another tokenizer.
        ModelError: a trace that says it is of another model, or a model whose routers have no weight matrix.
    """
    if trace.n_experts != model.n_experts or not {*trace.layers} <= {*model.layers} or not len(trace.tokens):
        raise ShapeError(
            f"Expected a trace of tokens in layers among {list(model.layers)} of {model.n_experts} experts, got "
            f"{len(trace.tokens)} tokens, {list(trace.layers)} and {trace.n_experts}; record one with this model."
        )
    if trace.model and trace.model != model.fingerprint:
        raise ModelError(f"Expected a trace of {model.name}, got one of {trace.name or 'another model'}; record anew.")
    check_text(model, trace)
    return {TRACE_KEY: TraceRequest(trace, routers_of(model)).encode()}
