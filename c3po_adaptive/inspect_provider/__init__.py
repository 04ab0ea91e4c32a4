"""inspect_ai: our model as a provider, ``inspect eval TASK --model c3po/MODEL``."""

from __future__ import annotations

from typing import Any

__all__ = ["C3POModelAPI"]


def __getattr__(name: str) -> Any:
    if name != "C3POModelAPI":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..errors import ArtifactError

    try:
        import inspect_ai  # noqa: F401
    except ImportError as error:
        raise ArtifactError(
            "Expected inspect_ai, but it is not installed; run pip install 'c3po_adaptive[inspect]'."
        ) from error
    from .provider import C3POModelAPI

    return C3POModelAPI
