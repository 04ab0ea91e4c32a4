# mypy: disable-error-code="empty-body"
"""The hooks of a plugin; mark an implementation with ``hookimpl``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from .answerers.base import AnswererStrategy
from .kernels.base import Kernel
from .optimizers.base import PathwayOptimizer
from .retrievers.base import Retriever
from .rules.base import NamedRule
from .selectors.base import LayerSelector

if TYPE_CHECKING:
    from .models.traced import TraceReader, TraceWriter

PROJECT = "c3po_adaptive"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_optimizers() -> list[type[PathwayOptimizer]]:
    """Classes that turn a model's own pathway into a better one."""


@hookspec
def register_kernels() -> list[type[Kernel]]:
    """Classes that weigh a neighbour by its vector and the sample's."""


@hookspec
def register_retrievers() -> list[type[Retriever]]:
    """Classes that find a sample's neighbours among the references."""


@hookspec
def register_layer_selectors() -> list[type[LayerSelector]]:
    """Classes that choose which layers and experts are re-mixed."""


@hookspec
def register_answerers() -> list[type[AnswererStrategy]]:
    """Classes that answer questions in a way of their own, beside re-mixing."""


@hookspec
def register_rules() -> list[type[NamedRule]]:
    """Classes that edit how each MoE layer chooses its experts, at every token."""


@hookspec
def register_studies() -> Mapping[str, object]:
    """Kinds of study by name, objects of subclasses of ``c3po_adaptive.study.Study``, or functions that make one."""


@hookspec
def register_executors() -> Mapping[str, Callable[[str | None, int | None], object]]:
    """What makes a ``c3po_adaptive.study.Executor`` of ``--address`` and ``--workers`` (or None), by engine's name."""


@hookspec
def register_attacks() -> Mapping[str, Callable[..., object]]:
    """What does what a data set's ``poison`` says, a ``c3po_adaptive.study.data.Attack``, by the attack's name."""


@hookspec
def register_reports() -> Mapping[str, Callable[[Path], None]]:
    """What draws the page of a run folder, for ``c3po report``, by the kind of run where that is no kind of study."""


@hookspec
def register_side_by_side() -> Mapping[str, Callable[..., tuple[object, object]]]:
    """What puts runs side by side, by their kind: ``(a, b, out, *, arms, datasets)`` to a summary and its ``Table``."""


@hookspec
def register_trace_readers() -> Mapping[str, TraceReader]:
    """What makes routing traces of other engines' files, by the engine's name."""


@hookspec
def register_trace_writers() -> Mapping[str, TraceWriter]:
    """What writes routing traces as other engines give them, by the engine's name."""
