"""Recording and replaying of whatever a user has: a model of transformers, rules as text, a trace's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import overload

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from .errors import SettingError, checked_call
from .models import traced
from .models.in_memory import borrowed
from .models.routed import RoutedModel
from .models.traced import Trace
from .registry import rule_named
from .routing.router_rules import RoutingRule
from .routing.trace_file import read_trace
from .tasks.texts import listed

Model = RoutedModel | nn.Module
Tokenizer = PreTrainedTokenizerBase | None
Rule = str | Mapping[str, object] | Sequence[str] | RoutingRule | None


@overload
def record(model: Model, text: str, *, generate: int = 0, rule: Rule = None, tokenizer: Tokenizer = None) -> Trace: ...
@overload
def record(
    model: Model, text: list[str], *, generate: int = 0, rule: Rule = None, tokenizer: Tokenizer = None
) -> list[Trace]: ...
@checked_call
def record(
    model: Model, text: str | list[str], *, generate: int = 0, rule: Rule = None, tokenizer: Tokenizer = None
) -> Trace | list[Trace]:
    """The experts that each token of a text uses, and what is added to it if wanted. A model in training is read in
    evaluation mode, and left as it was.

    Args:
        model: from ``load_moe_model``, or of transformers.
        text: two tokens at least; a list of them becomes a list of traces.
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
        traces = [traced.record(routed, one, generate=generate, rule=along) for one in listed(text)]
    return traces[0] if isinstance(text, str) else traces


@checked_call
def replay(model: Model, trace: Trace | str | Path, *, foreign: bool = False, tokenizer: Tokenizer = None) -> Tensor:
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
    if not isinstance(trace, Trace | str | Path):
        hint = "of several replay each" if isinstance(trace, list | tuple) else "a trace, or its file, stands second"
        raise SettingError(f"Expected replay(model, trace), got {type(trace).__name__}; {hint}.")
    held = trace if isinstance(trace, Trace) else read_trace(Path(trace))
    with borrowed(model, tokenizer) as routed:
        return traced.replay(routed, held, foreign=foreign)
