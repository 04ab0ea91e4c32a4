"""What both answerers build on, asked for by its name: the answerer that re-mixes, and the optimizer that does not."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from c3po_adaptive import AnswererStrategy, AnsweringContext, default_registry


def remix() -> AnswererStrategy:
    """The arm's re-mixing, without passages."""
    return cast(AnswererStrategy, default_registry().create("answerer", "remix"))


def still(context: AnsweringContext) -> AnsweringContext:
    """The same with nothing re-mixed."""
    none = default_registry().create("optimizer", "none")
    return replace(context, strategies=replace(context.strategies, optimizer=none))
