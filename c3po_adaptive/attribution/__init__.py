"""Attribution of a scalar f(Ω) to the explicit pathway Ω, by Captum: method, baseline and f by name."""

from .attribute import Attributed, attribute
from .baselines import Baseline, baseline_pathway
from .function import Attributable, PathwayFunction
from .groups import Groups
from .methods import METHODS

__all__ = [
    "METHODS",
    "Attributable",
    "Attributed",
    "Baseline",
    "Groups",
    "PathwayFunction",
    "attribute",
    "baseline_pathway",
]
