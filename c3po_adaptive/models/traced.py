"""Recording and replaying the routing of whole texts."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DataError, SettingError
from ..routing.trace import Recorder, Replayed, Trace
from ..types import Prompt
from .identity import fingerprint
from .routed import RoutedModel


def record(model: RoutedModel, text: str) -> Trace:
    """The trace of a text along the model's own routing; the last token, after which nothing is predicted, has none.

    Raises:
        DataError: a text of fewer than two tokens.
    """
    ids = model.encode_text(text).ids
    recorder = Recorder(len(ids), len(model.layers))
    model.ruled([_whole(ids)], recorder)
    assert recorder.experts is not None
    return Trace(
        torch.tensor(ids),
        model.layers,
        recorder.experts,
        recorder.weights,
        model.n_experts,
        fingerprint(model),
        model.name,
    )


def replay(model: RoutedModel, trace: Trace, *, foreign: bool = False) -> Tensor:
    """Log-likelihood ``[T - 1]`` of each token after the first along a trace's routing; differentiable in its weights.

    Args:
        model: that is run.
        trace: that is forced.
        foreign: whether it may be of a model with other weights, such as an engine's or an earlier checkpoint's.

    Raises:
        SettingError: a trace of other layers or experts, or of another model where that is not said.
        DataError: fewer than two tokens.
        ModelError: ids alone, for a family whose router does not weigh experts by softmax.
    """
    if trace.layers != model.layers or trace.n_experts != model.n_experts:
        raise SettingError(
            f"Expected a trace of MoE layers {model.layers[0]} to {model.layers[-1]} with {model.n_experts} experts, "
            f"got {len(trace.layers)} layers with {trace.n_experts}; record it with a model of this kind."
        )
    if not foreign and trace.model != fingerprint(model):
        raise SettingError(
            f"Expected a trace of this model, got one of {trace.name or 'an unknown model'} with other weights; say "
            "foreign=True if that is meant."
        )
    (answered,) = model.ruled([_whole(trace.tokens.tolist())], Replayed(trace), start=0)
    return answered.token_scores


def likelihoods(model: RoutedModel, trace: Trace) -> Tensor:
    """Log-likelihood ``[T - 1]`` of a trace's tokens along the model's own routing."""
    (answered,) = model.ruled([_whole(trace.tokens.tolist())])
    return answered.token_scores


def _whole(ids: list[int] | tuple[int, ...]) -> Prompt:
    """A text as its first token, and the rest that is scored."""
    if len(ids) < 2:
        raise DataError(f"Expected a text of two tokens at least, got {len(ids)}; give a longer one.")
    return Prompt(tuple(ids[:1]), (tuple(ids[1:]),), (1.0,))
