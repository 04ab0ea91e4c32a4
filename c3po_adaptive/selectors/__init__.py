"""Layer selectors: which layers and experts are re-mixed, question by question; perhaps none."""

from .abstain import Abstain
from .amortized import Amortized
from .attribution import Attribution
from .base import LayerSelector
from .causal import Causal
from .cross_fitted import CrossFitted
from .disagreement import Disagreement
from .fault_layers import FaultLayers
from .fixed import Fixed
from .gradient import Gradient
from .learned import Learned
from .oracle_layers import OracleLayers
from .random import RandomLayers
from .reinforced import Reinforced
from .rl_experts import RLExperts
from .rl_layers import RLLayers
from .scored import Scored

__all__ = [
    "Abstain",
    "Amortized",
    "Attribution",
    "Causal",
    "CrossFitted",
    "Disagreement",
    "FaultLayers",
    "Fixed",
    "Gradient",
    "LayerSelector",
    "Learned",
    "OracleLayers",
    "RLExperts",
    "RLLayers",
    "RandomLayers",
    "Reinforced",
    "Scored",
]
