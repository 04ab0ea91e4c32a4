"""Runs held against each other: two side by side (``c3po report A B``), or any number of them against a protocol
(``c3po compare``), and a run's results as plain values."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from .kept_answers import answers
    from .saved_run import SavedRun, load_run

__all__ = ["SavedRun", "answers", "load_run"]

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_side_by_side() -> dict[str, Callable[..., object]]:
    return {"comparison": _two_comparisons}


def _two_comparisons(*given: Any, **named: Any) -> object:
    from .two_runs import compare_runs, table_of

    found = compare_runs(*given, **named)
    return found, table_of(found)


def __getattr__(name: str) -> Any:
    """What takes its time to import, when it is asked for."""
    if name in __all__:
        return getattr(import_module(".kept_answers" if name == "answers" else ".saved_run", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
