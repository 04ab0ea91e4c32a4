"""Optimizers: from a model's own pathway to a better one."""

from .amortized import AmortizedNGD
from .base import PathwayOptimizer
from .constant import Constant
from .descent import Descent
from .fault_undone import FaultUndone
from .kernel_regression import KernelRegression
from .learned_pathway import LearnedPathway
from .mode_finding import ModeFinding
from .ngd import NGD
from .none import NoStep
from .oracle import Oracle
from .random_change import RandomChange
from .shrunken import Shrunken
from .toward_mean import TowardMean

__all__ = [
    "NGD",
    "AmortizedNGD",
    "Constant",
    "Descent",
    "FaultUndone",
    "KernelRegression",
    "LearnedPathway",
    "ModeFinding",
    "NoStep",
    "Oracle",
    "PathwayOptimizer",
    "RandomChange",
    "Shrunken",
    "TowardMean",
]
