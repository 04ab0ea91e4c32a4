"""Layer selectors: which layers and experts are re-mixed, question by question; perhaps none."""

from .amortized import Amortized
from .attribution import Attribution
from .base import LayerSelector
from .causal import Causal
from .fault_layers import FaultLayers
from .fixed import Fixed
from .gradient import Gradient
from .oracle_layers import OracleLayers
from .random import RandomLayers
from .scored import Scored

__all__ = [
    "Amortized",
    "Attribution",
    "Causal",
    "FaultLayers",
    "Fixed",
    "Gradient",
    "LayerSelector",
    "OracleLayers",
    "RandomLayers",
    "Scored",
]
