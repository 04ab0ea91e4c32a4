"""Arms side by side on the same questions, with controls, paired intervals and costs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .comparison_config import ComparisonConfig

if TYPE_CHECKING:
    from .comparison_study import STUDY, ComparisonStudy
    from .comparison_worker import ComparisonWorker

__all__ = ["STUDY", "ComparisonConfig", "ComparisonStudy", "ComparisonWorker"]

_HOME = dict.fromkeys(("STUDY", "ComparisonStudy"), "comparison_study") | {"ComparisonWorker": "comparison_worker"}


def __getattr__(name: str) -> Any:
    """What takes seconds to import, when it is asked for: a configuration is checked without it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
