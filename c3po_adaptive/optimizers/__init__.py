"""Optimizers: from a model's own pathway to a better one."""

from .amortized import AmortizedNGD
from .base import PathwayOptimizer
from .descent import Descent
from .kernel_regression import KernelRegression
from .mode_finding import ModeFinding
from .ngd import NGD
from .none import NoStep
from .oracle import Oracle
from .toward_mean import TowardMean

__all__ = [
    "NGD",
    "AmortizedNGD",
    "Descent",
    "KernelRegression",
    "ModeFinding",
    "NoStep",
    "Oracle",
    "PathwayOptimizer",
    "TowardMean",
]
