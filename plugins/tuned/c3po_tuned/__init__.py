"""Arms that train weights or prompts on the same labels: what re-mixing is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from .base import Labeled, Lesson, Trained, Training, Tuning
from .lora import LoRA
from .router_tuning import RouterTuning
from .soft_prompts import PrefixTuning, PromptTuning
from .tent import Tent

if TYPE_CHECKING:
    from c3po_adaptive import AnswererStrategy

__all__ = [
    "Labeled",
    "Lesson",
    "LoRA",
    "PrefixTuning",
    "PromptTuning",
    "RouterTuning",
    "Tent",
    "Trained",
    "Training",
    "Tuning",
]

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [PromptTuning, PrefixTuning, LoRA, RouterTuning, Tent]
