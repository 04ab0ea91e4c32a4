"""Attribution of a scalar f(Ω) to the explicit pathway Ω, by Captum: a method, a baseline and a target by name."""

from .attribute import Attributed, attribute
from .baselines import Baseline, baseline_pathway
from .function import PathwayFunction, Target
from .groups import Groups
from .methods import METHODS

__all__ = ["METHODS", "Attributed", "Baseline", "Groups", "PathwayFunction", "Target", "attribute", "baseline_pathway"]
