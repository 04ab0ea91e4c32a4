"""lm-evaluation-harness and inspect_ai: our models in them, their tasks as questions, our records as their logs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from c3po_adaptive import ArtifactError

if TYPE_CHECKING:
    from .export import export_samples
    from .model import C3POLM
    from .provider import C3POModelAPI
    from .run_answers import RunAnswers, answers_in

__all__ = ["C3POLM", "C3POModelAPI", "RunAnswers", "answers_in", "export_samples", "register"]

NAME = "c3po"
TARGET = "c3po_harness:C3POLM"
_HOME = {
    "C3POLM": ("model", "lm_eval"),
    "C3POModelAPI": ("provider", "inspect_ai"),
    "RunAnswers": ("run_answers", ""),
    "answers_in": ("run_answers", ""),
    "export_samples": ("export", ""),
}
"""The file of each name, and what it needs."""
_INSTALL = {
    "lm_eval": "Expected lm-evaluation-harness (lm_eval), but it is not installed; run pip install "
    "'c3po_adaptive[eval]'.",
    "inspect_ai": "Expected inspect_ai, but it is not installed; run pip install 'c3po_adaptive[inspect]'.",
}


def register() -> None:
    """Make ``c3po`` known to lm-evaluation-harness: releases up to 0.4.13 do not look for entry points themselves.

    Raises:
        ArtifactError: the harness is not installed.
    """
    _check_installed("lm_eval")
    from lm_eval.api.registry import model_registry

    import_module("lm_eval.models")  # their own first: they are not looked up once anything is registered
    if NAME not in model_registry:
        model_registry.register(NAME, target=TARGET)


def _check_installed(name: str) -> None:
    try:
        import_module(name)
    except ImportError as error:
        raise ArtifactError(_INSTALL[name]) from error


def __getattr__(name: str) -> Any:
    """Each when it is asked for, as neither of the two needs the other."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    file, needed = _HOME[name]
    if needed:
        _check_installed(needed)
    return getattr(import_module(f".{file}", __name__), name)
