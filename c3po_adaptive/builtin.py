"""The package's own strategies, registered like those of any plugin."""

from __future__ import annotations

from .hookspecs import hookimpl
from .kernels import Gaussian, Kernel, Linear, Matern, Polynomial
from .optimizers.amortised import AmortisedNGD
from .optimizers.base import PathwayOptimizer
from .optimizers.kernel_regression import KernelRegression
from .optimizers.mode_finding import ModeFinding
from .optimizers.ngd import NGD
from .optimizers.none import NoStep
from .optimizers.oracle import Oracle
from .retrievers import FaissHNSW, FaissIVF, FaissKNN, FaissRadius, RandomNeighbours, Retriever
from .selectors.abstain import Abstain
from .selectors.amortised import Amortised
from .selectors.attribution import Attribution
from .selectors.base import LayerSelector
from .selectors.causal import Causal, OracleLayers
from .selectors.disagreement import Disagreement
from .selectors.fixed import Fixed
from .selectors.gradient import Gradient
from .selectors.learned import Learned
from .selectors.random import RandomLayers


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    return [NGD, AmortisedNGD, KernelRegression, ModeFinding, Oracle, NoStep]


@hookimpl
def register_kernels() -> list[type[Kernel]]:
    return [Gaussian, Matern, Polynomial, Linear]


@hookimpl
def register_retrievers() -> list[type[Retriever]]:
    return [FaissKNN, FaissRadius, FaissIVF, FaissHNSW, RandomNeighbours]


@hookimpl
def register_layer_selectors() -> list[type[LayerSelector]]:
    return [
        Fixed,
        Attribution,
        Gradient,
        Amortised,
        Disagreement,
        Learned,
        Abstain,
        RandomLayers,
        Causal,
        OracleLayers,
    ]
