"""Answerers that are no remixers: what re-mixing is compared with."""

from .dense import Dense
from .lora import LoRA
from .prefix_tuning import PrefixTuning
from .prompt_tuning import PromptTuning
from .router_tuning import RouterTuning
from .tent import Tent

__all__ = ["Dense", "LoRA", "PrefixTuning", "PromptTuning", "RouterTuning", "Tent"]
