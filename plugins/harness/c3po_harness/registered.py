"""What inspect_ai loads by its entry points: the provider's name, and the provider itself once it is asked for."""

from __future__ import annotations

from typing import Any

from inspect_ai.model import modelapi


def _provider() -> Any:
    from .provider import C3POModelAPI

    return C3POModelAPI


c3po = modelapi(name="c3po")(_provider)
"""Makes the provider of a model's name."""
