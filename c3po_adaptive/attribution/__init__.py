"""Attribution of a scalar f(Ω) to the explicit pathway Ω, by Captum: method, baseline and f by name."""

from .attribute import attribute
from .attributed import Attributed
from .baselines import baseline_pathway
from .function import PathwayFunction
from .methods import CAPTUM, METHODS

__all__ = ["CAPTUM", "METHODS", "Attributed", "PathwayFunction", "attribute", "baseline_pathway"]
