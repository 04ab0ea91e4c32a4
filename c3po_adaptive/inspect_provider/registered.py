"""What inspect_ai loads by its entry points: the provider's name, and the provider itself once it is asked for."""

from __future__ import annotations

from typing import Any

from inspect_ai.model import modelapi


@modelapi(name="c3po")  # type: ignore[untyped-decorator]
def c3po() -> Any:
    """The class of the provider."""
    from .provider import C3POModelAPI

    return C3POModelAPI
