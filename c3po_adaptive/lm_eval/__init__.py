"""EleutherAI's lm-evaluation-harness: our model under ``--model c3po``, and our records in its sample log format."""

from __future__ import annotations

from importlib import import_module
from typing import Any

NAME = "c3po"
TARGET = "c3po_adaptive.lm_eval:C3POLM"
__all__ = ["C3POLM", "register"]


def register() -> None:
    """Make ``c3po`` known to the harness: releases up to 0.4.13 do not look for entry points themselves.

    Raises:
        ArtifactError: the harness is not installed.
    """
    _check_installed()
    from lm_eval.api.registry import model_registry

    import_module("lm_eval.models")  # their own first: they are not looked up once anything is registered
    if NAME not in model_registry:
        model_registry.register(NAME, target=TARGET)


def _check_installed() -> None:
    from ..errors import ArtifactError

    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise ArtifactError(
            "Expected lm-evaluation-harness (lm_eval), but it is not installed; run pip install 'c3po_adaptive[eval]'."
        ) from error


def __getattr__(name: str) -> Any:
    if name != "C3POLM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _check_installed()
    from .model import C3POLM

    return C3POLM
