"""Which experts a set of texts needs, in one order."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter_targets import PeftTargets, peft_targets
    from .lora import lora_targets
    from .ranking import RankedExpert, Ranking, rank_experts

__all__ = ["PeftTargets", "RankedExpert", "Ranking", "lora_targets", "peft_targets", "rank_experts"]
_PLACES = {"lora_targets": ".lora", "PeftTargets": ".adapter_targets", "peft_targets": ".adapter_targets"}


def __getattr__(name: str) -> Any:
    """What takes its time to import, when it is asked for."""
    if name in __all__:
        return getattr(import_module(_PLACES.get(name, ".ranking"), __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
