"""Baselines: answerers that re-mix nothing, or correct the scores of another answerer."""

from .contextual import Contextual
from .dense import Dense
from .in_context import InContext
from .knn_label import KnnLabel
from .length_exponent import LengthExponent
from .lora import LoRA
from .pmi import PMI
from .prefix_tuning import PrefixTuning
from .prompt_tuning import PromptTuning
from .router_tuning import RouterTuning
from .surface_logit import SurfaceLogit
from .tent import Tent

__all__ = [
    "PMI",
    "Contextual",
    "Dense",
    "InContext",
    "KnnLabel",
    "LengthExponent",
    "LoRA",
    "PrefixTuning",
    "PromptTuning",
    "RouterTuning",
    "SurfaceLogit",
    "Tent",
]
