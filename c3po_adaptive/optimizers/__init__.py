"""Optimizers: from a model's own pathway to a better one."""

from .amortized import AmortizedNGD
from .base import PathwayOptimizer, SteppingOptimizer
from .constant import Constant, ConstantIntegratedStep
from .descent import Descent
from .integrated_step import IntegratedStep
from .kernel_regression import KernelRegression
from .mode_finding import ModeFinding
from .ngd import NGD
from .none import NoStep
from .oracle import Oracle
from .random_change import RandomChange
from .toward_mean import TowardMean

__all__ = [
    "NGD",
    "AmortizedNGD",
    "Constant",
    "ConstantIntegratedStep",
    "Descent",
    "IntegratedStep",
    "KernelRegression",
    "ModeFinding",
    "NoStep",
    "Oracle",
    "PathwayOptimizer",
    "RandomChange",
    "SteppingOptimizer",
    "TowardMean",
]
