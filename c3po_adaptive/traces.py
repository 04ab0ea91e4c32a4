"""Recording and replaying of whatever a user has: a model of transformers, rules as text, a trace's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from .models import traced
from .models.in_memory import borrowed
from .models.routed import RoutedModel
from .models.traced import Trace
from .registry import rule_named
from .routing.router_rules import RoutingRule
from .routing.trace_file import read_trace


def record(
    model: RoutedModel | nn.Module,
    text: str,
    *,
    generate: int = 0,
    rule: str | Mapping[str, object] | Sequence[str] | RoutingRule | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Trace:
    """The experts that each token of a text uses, and what is added to it if wanted. A model in training is read in
    evaluation mode, and left as it was.

    Args:
        model: from ``load_moe_model``, or of transformers.
        text: two tokens at least.
        generate: so many tokens are added, the likeliest at each step.
        rule: along which it is run: one, or what ``rule_named`` makes one of, such as ``"ban:3"``.
        tokenizer: of a model of transformers.

    Raises:
        DataError: fewer than two tokens, or more than the model can read.
        SettingError: no tokenizer; a text that is no rule; or experts that the model does not have.
        UnknownNameError: there is no rule of that name.
    """
    along = rule if rule is None or callable(rule) else rule_named(rule)
    with borrowed(model, tokenizer) as routed:
        return traced.record(routed, text, generate=generate, rule=along)


def replay(
    model: RoutedModel | nn.Module,
    trace: Trace | str | Path,
    *,
    foreign: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Tensor:
    """Log-likelihood ``[T - 1]`` of a trace's tokens along its experts, differentiable in its weights. The model is
    left as it was.

    Args:
        model: from ``load_moe_model``, or of transformers.
        trace: or its file.
        foreign: whether it may be of a model with other weights.
        tokenizer: of a model of transformers.

    Raises:
        SettingError: no tokenizer; or a trace of another model, layers or experts.
        DataError: a file that holds none; fewer than two tokens, or ids of another tokenizer.
        ModelError: ids alone, for routers that cannot weigh others.
    """
    held = trace if isinstance(trace, Trace) else read_trace(Path(trace))
    with borrowed(model, tokenizer) as routed:
        return traced.replay(routed, held, foreign=foreign)
