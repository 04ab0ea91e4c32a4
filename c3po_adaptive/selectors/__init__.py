"""Layer selectors: which layers and experts are re-mixed, question by question; perhaps none."""

from .attribution import Attribution
from .base import LayerSelector
from .fixed import Fixed
from .gradient import Amortized, Gradient
from .misrouted import Misrouted
from .random_layers import RandomLayers
from .scored import ScoredLayers

__all__ = [
    "Amortized",
    "Attribution",
    "Fixed",
    "Gradient",
    "LayerSelector",
    "Misrouted",
    "RandomLayers",
    "ScoredLayers",
]
