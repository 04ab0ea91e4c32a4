"""Kernels: how much a neighbour counts. Each loads scikit-learn when it is first called."""

from .base import Kernel, Product, Sum
from .gaussian import Gaussian
from .linear import Linear
from .matern import Matern
from .polynomial import Polynomial

__all__ = ["Gaussian", "Kernel", "Linear", "Matern", "Polynomial", "Product", "Sum"]
