"""Attribution of a scalar f(Ω) to the explicit pathway Ω, by Captum: method, baseline and f by name."""

from ..types import Attributable
from .attribute import attribute
from .attributed import Attributed
from .baselines import Baseline, baseline_pathway
from .choices import Choice
from .function import PathwayFunction
from .methods import CAPTUM, METHODS
from .weight_groups import Groups

__all__ = [
    "CAPTUM",
    "METHODS",
    "Attributable",
    "Attributed",
    "Baseline",
    "Choice",
    "Groups",
    "PathwayFunction",
    "attribute",
    "baseline_pathway",
]
