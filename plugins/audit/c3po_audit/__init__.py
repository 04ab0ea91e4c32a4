"""What routing is worth on a model and questions, before anything is re-mixed: leverage, headroom, use, chance; and how
a set of texts uses experts."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from .expert_load import ExpertLoad
    from .load_difference import LoadDifference
    from .records import AuditSummary
    from .routing_sets import routing_statistics, trace_files
    from .run import audit, draw_report, summary_of
    from .statistics import RoutingStatistics, apart_values
    from .summary import leverage_line

_HOME = {
    "AuditSummary": "records",
    "ExpertLoad": "expert_load",
    "LoadDifference": "load_difference",
    "RoutingStatistics": "statistics",
    "apart_values": "statistics",
    "audit": "run",
    "draw_report": "run",
    "leverage_line": "summary",
    "routing_statistics": "routing_sets",
    "summary_of": "run",
    "trace_files": "routing_sets",
}
__all__ = [
    "AuditSummary",
    "ExpertLoad",
    "LoadDifference",
    "RoutingStatistics",
    "apart_values",
    "audit",
    "draw_report",
    "leverage_line",
    "routing_statistics",
    "summary_of",
    "trace_files",
]
hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_reports() -> dict[str, Callable[[Path], None]]:
    return {"audit": _draw}


def _draw(folder: Path) -> None:
    """What takes seconds to import, when it is asked for."""
    from .run import draw_report

    draw_report(folder)


def __getattr__(name: str) -> Any:
    """Each when it is asked for: commands are told apart without what they load."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
