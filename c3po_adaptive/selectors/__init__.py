"""Layer selectors: which layers and experts are re-mixed, question by question; perhaps none."""

from .attribution import Attribution
from .base import LayerSelector
from .causal import Causal
from .fixed import Fixed
from .gradient import Amortized, Gradient
from .misrouted import Misrouted
from .oracle_layers import OracleLayers
from .random_layers import RandomLayers
from .scored import ScoredLayers

__all__ = [
    "Amortized",
    "Attribution",
    "Causal",
    "Fixed",
    "Gradient",
    "LayerSelector",
    "Misrouted",
    "OracleLayers",
    "RandomLayers",
    "ScoredLayers",
]
