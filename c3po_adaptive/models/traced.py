"""Recording and replaying the routing of whole texts, and traces of what others recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ..errors import DataError, SettingError, ShapeError
from ..routing.forced import routing_from_logits
from ..routing.generation import check_room
from ..routing.router_rules import RoutingRule
from ..routing.trace import HEAVIEST, LIMIT, NONE, WHOLE, Recorder, Replayed, Trace, behind, parted, recorded_in_both
from ..routing.trace_file import check_place, is_trace, read_trace, write_trace
from ..types import Prompt
from .architecture import check_ids
from .fingerprint import fingerprint, tokenizer_identity
from .names import public_name
from .routed import RoutedModel

__all__ = [
    "HEAVIEST",
    "LIMIT",
    "NONE",
    "Trace",
    "TraceReader",
    "TraceWriter",
    "behind",
    "check_place",
    "check_text",
    "check_tokens",
    "compared",
    "is_trace",
    "likelihoods",
    "of_experts",
    "of_router_logits",
    "parted",
    "read_trace",
    "record",
    "recorded_in_both",
    "replay",
    "write_trace",
]


class TraceReader(Protocol):
    """Makes a trace of another engine's file."""

    def __call__(self, model: RoutedModel, path: Path, tokens: Sequence[int] | None, start: int) -> Trace:
        """The trace in a file.

        Args:
            model: of the same family and settings as the one that the engine ran.
            path: of the file.
            tokens: ids of the whole sequence, where the file has not all of them.
            start: the first token whose experts were asked for.

        Raises:
            C3POError: it holds something else.
        """
        ...


class TraceWriter(Protocol):
    """Writes a trace as another engine gives it."""

    def __call__(self, trace: Trace, path: Path, decoder_layers: int) -> None:
        """Write a file, whole or not at all.

        Args:
            trace: that is written; its weights go where the engine has a place for them.
            path: of the file.
            decoder_layers: how many the model has, dense ones included.

        Raises:
            C3POError: the engine's layout has no room for it, or something else lies there.
        """
        ...


def record(model: RoutedModel, text: str, *, generate: int = 0, rule: RoutingRule | None = None) -> Trace:
    """The trace of a text along the model's own routing, or a rule's; the last token, after which nothing is predicted,
    has none.

    Args:
        model: that is run.
        text: that is read.
        generate: how many tokens the model may add, the likeliest at each step, until it ends its answer; their routing
            is that of the steps which made them.
        rule: that acts at every token. Where it uses fewer experts in some places than in others, these are filled up
            with experts of weight zero.

    Raises:
        DataError: a text of fewer than two tokens, or one that leaves no room for so many more.
    """
    ids = prompt = model.encode_text(text).ids
    if generate:
        check_room(model.max_length, len(ids), generate)  # before there is room for what cannot be
    with model.answering():
        recorder = Recorder(len(ids) + generate, len(model.layers), model.sites[0].top_k, rule)
        if generate:
            ids = _continued(model, ids, generate, recorder)
        else:
            model.ruled([_whole(ids, f"{text!r} of ")], recorder)
    return Trace(
        torch.tensor(ids),
        model.layers,
        *recorder.whole(len(ids), model.n_experts),
        model.n_experts,
        fingerprint(model),
        public_name(model.name),
        getattr(model.model.config, "_commit_hash", None) or "",
        tokenizer_identity(model.tokenizer),
        pieces_of(model, ids),
        len(prompt),
        "c3po_adaptive",
        _dtype(model),
    )


def _dtype(model: RoutedModel) -> str:
    """Of the weights; behind it what quantized some of them."""
    plain, method = str(model.model.dtype).removeprefix("torch."), getattr(model.model, "quantization_method", None)
    return plain if method is None else f"{plain}, {getattr(method, 'value', method)}"


def pieces_of(model: RoutedModel, tokens: Sequence[int]) -> dict[int, str]:
    """The text of each token by itself."""
    each = list(dict.fromkeys(tokens))
    return dict(zip(each, model.tokenizer.batch_decode([[token] for token in each]), strict=True))


def _continued(model: RoutedModel, ids: tuple[int, ...], count: int, recorder: Recorder) -> tuple[int, ...]:
    """Tokens with up to so many more behind them, each the likeliest; the rule sees every token but the last."""
    inputs = torch.tensor([ids], device=model.model.device)
    seen = torch.ones_like(inputs)
    options = {"max_new_tokens": count, "do_sample": False, "num_beams": 1, "num_return_sequences": 1}
    with model.decoding(recorder, seen):
        whole = cast(Any, model.model).generate(inputs, attention_mask=seen, pad_token_id=model.pad, **options)
    return tuple(whole[0].tolist())


def replay(model: RoutedModel, trace: Trace, *, foreign: bool = False) -> Tensor:
    """Log-likelihood ``[T - 1]`` of each token after the first along a trace's routing; differentiable in its weights.
    Places that were not recorded are left to the model.

    Args:
        model: that is run.
        trace: that is forced.
        foreign: whether it may be of a model with other weights, such as an engine's or an earlier checkpoint's.

    Raises:
        SettingError: a trace of other layers or experts, or of another model where that is not said; or in which
            nothing was recorded that a likelihood depends on.
        DataError: fewer than two tokens, or ids of another tokenizer.
        ModelError: ids alone, for a family whose router weighs experts neither by softmax nor by sigmoid.
    """
    if trace.layers != model.layers or trace.n_experts != model.n_experts:
        raise SettingError(
            f"Expected a trace of MoE layers {model.layers[0]} to {model.layers[-1]} with {model.n_experts} experts, "
            f"got {len(trace.layers)} layers with {trace.n_experts}; record it with a model of this kind."
        )
    check_text(model, trace)
    if not foreign and trace.model != fingerprint(model):
        known = "with other weights" if trace.model else "with weights that nobody knows"
        raise SettingError(
            f"Expected a trace of this model, got one of {trace.name or 'an unknown model'} {known}; say foreign=True, "
            "or --foreign, if that is meant."
        )
    if trace.weights is None and trace.experts.shape[-1] != model.sites[0].top_k:
        raise SettingError(
            f"Expected a trace without weights to have {model.sites[0].top_k} experts a token, as many as this model's "
            f"router weighs, got {trace.experts.shape[-1]}; replay it on a model that uses as many."
        )
    prompt = _whole(trace.tokens.tolist())
    behind(trace.recorded)
    (answered,) = model.ruled([prompt], Replayed(trace), start=0)
    return answered.token_scores


def of_router_logits(model: RoutedModel, tokens: Tensor, router_logits: Sequence[Tensor]) -> Trace:
    """The trace of what transformers' ``output_router_logits=True`` gives for one sequence.

    Each router of the model makes experts and weights of its logits; so they are what transformers multiplied with.

    Args:
        model: of the same family and settings.
        tokens: ``[T]`` token ids.
        router_logits: of each MoE layer ``[T, E]`` or ``[1, T, E]``.

    Raises:
        DataError: token ids that the model does not have.
        ShapeError: logits of other layers, tokens or experts, or that are not finite.
        ModelError: a family whose routers cannot take logits.
    """
    check_tokens(model, tokens)
    wanted = (len(model.layers), len(tokens), model.n_experts)
    logits = [part[0] if part.ndim == 3 and len(part) == 1 else part for part in router_logits]
    got = {tuple(part.shape) for part in logits}
    if (len(logits), got) != (wanted[0], {wanted[1:]}):
        raise ShapeError(
            f"Expected router logits (T, E) = {wanted[1:]} of {wanted[0]} MoE layers, got {len(logits)} of "
            f"{' and '.join(map(str, sorted(got)[:3])) or 'no shape'}; give those of one text, by a model of this kind."
        )
    if not all(part.is_floating_point() and part.float().isfinite().all() for part in router_logits):
        raise ShapeError("Expected finite router logits, got NaN or infinity; record again.")
    with model.answering():
        experts, weights = routing_from_logits(model.model, model.sites, tokens, [part.float() for part in logits])
    return of_experts(model, tokens, experts, weights, by="transformers")


def of_experts(model: RoutedModel, tokens: Tensor, experts: Tensor, weights: Tensor | None = None, *, by: str) -> Trace:
    """The trace of experts that another engine recorded. No engine says which weights it ran: it is of an unknown
    model, and replayed as a foreign one.

    Args:
        model: of the same family and settings.
        tokens: ``[T]`` token ids.
        experts: ``[T, L, k]`` expert ids, ``NONE`` where nothing was recorded.
        weights: ``[T, L, k]`` what their outputs were multiplied with; None where ids alone are known.
        by: the engine's name.

    Raises:
        DataError: token ids that the model does not have.
        ShapeError: as for ``Trace``.
    """
    check_tokens(model, tokens)
    name, tokenizer = f"{public_name(model.name)} by {by}", tokenizer_identity(model.tokenizer)
    return Trace(
        tokens.long(),
        model.layers,
        experts,
        weights,
        model.n_experts,
        name=name,
        tokenizer=tokenizer,
        pieces=pieces_of(model, tokens.tolist()),
        engine=by,
    )


def likelihoods(model: RoutedModel, trace: Trace) -> Tensor:
    """Log-likelihood ``[T - 1]`` of a trace's tokens along the model's own routing.

    Raises:
        DataError: fewer than two tokens, or ids of another tokenizer.
    """
    check_text(model, trace)
    (answered,) = model.ruled([_whole(trace.tokens.tolist())])
    return answered.token_scores


def compared(model: RoutedModel, one: Trace, other: Trace) -> tuple[Tensor, Tensor]:
    """Log-likelihood ``[T - 1]`` of the same tokens along each of two traces, replayed on one model; places that only
    one of them recorded are left to the model in both.

    Raises:
        SettingError: traces of other tokens, of layers and experts that the model does not have, or without a place
            that both recorded.
        DataError: fewer than two tokens, or ids of another tokenizer.
        ModelError: as ``replay``.
    """
    alone = ~recorded_in_both(one, other)[..., None]
    parts = (replace(trace, experts=trace.experts.masked_fill(alone, NONE)) for trace in (one, other))
    with torch.no_grad():
        first, second = (replay(model, trace, foreign=True) for trace in parts)
    return first, second


def check_text(model: RoutedModel, trace: Trace) -> None:
    """Refuse a trace whose token ids are no text to a model, or another one.

    Raises:
        DataError: as ``check_tokens``; or a trace that says it is of another tokenizer.
    """
    check_tokens(model, trace.tokens)
    tokenizer = model.tokenizer
    known = {*tokenizer.get_vocab().values()} - {*tokenizer.get_added_vocab().values()}
    added = {*trace.tokens.tolist()} & trace.pieces.keys() - known if trace.tokenizer else set()
    others = any(piece != trace.pieces[token] for token, piece in pieces_of(model, sorted(added)).items())
    if others or (trace.tokenizer and trace.tokenizer != tokenizer_identity(model.tokenizer)):
        raise DataError(
            f"Expected a trace of {model.name}'s tokenizer, got one of another, where ids stand for other pieces of "
            "text; take a model with the tokenizer that they are of."
        )


def check_tokens(model: RoutedModel, tokens: Tensor) -> None:
    """Refuse token ids ``[T]`` that a model cannot read.

    Raises:
        DataError: ids that its vocabulary does not have, for another tokenizer made them; or more than it can read.
    """
    if tokens.dtype not in WHOLE:
        raise DataError(f"Expected token ids of at most 64 bits, got {tokens.dtype}; give those of a tokenizer.")
    if tokens.ndim != 1:
        raise DataError(f"Expected a sequence of token ids, got {tokens.ndim} dimensions; give those of one text.")
    check_ids(model.model, tokens, len(tokens))


def _whole(ids: list[int] | tuple[int, ...], whose: str = "") -> Prompt:
    """A text as its first token, and the rest that is scored."""
    if len(ids) < 2:
        raise DataError(f"Expected a text of two tokens at least, got {whose}{len(ids)}; give a longer one.")
    return Prompt(tuple(ids[:1]), (tuple(ids[1:]),), (1.0,))
