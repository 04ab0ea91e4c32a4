"""The package's own strategies, registered like those of any plugin."""

from __future__ import annotations

from . import answerers, kernels, optimizers, retrievers, rules, selectors
from .hookspecs import hookimpl


@hookimpl
def register_optimizers() -> list[type[optimizers.PathwayOptimizer]]:
    return [
        optimizers.NGD,
        optimizers.AmortizedNGD,
        optimizers.Constant,
        optimizers.KernelRegression,
        optimizers.ModeFinding,
        optimizers.Oracle,
        optimizers.NoStep,
        optimizers.IntegratedStep,
        optimizers.ConstantIntegratedStep,
        optimizers.RandomChange,
    ]


@hookimpl
def register_kernels() -> list[type[kernels.Kernel]]:
    return [kernels.Gaussian, kernels.Matern, kernels.Polynomial, kernels.Linear]


@hookimpl
def register_retrievers() -> list[type[retrievers.Retriever]]:
    return [
        retrievers.FaissKNN,
        retrievers.FaissRadius,
        retrievers.FaissIVF,
        retrievers.FaissHNSW,
        retrievers.RandomNeighbours,
    ]


@hookimpl
def register_layer_selectors() -> list[type[selectors.LayerSelector]]:
    return [
        selectors.Fixed,
        selectors.Attribution,
        selectors.Gradient,
        selectors.Amortized,
        selectors.Misrouted,
        selectors.RandomLayers,
        selectors.Causal,
        selectors.OracleLayers,
    ]


@hookimpl
def register_answerers() -> list[type[answerers.AnswererStrategy]]:
    return [
        answerers.Remix,
        answerers.AlongRule,
        answerers.Dense,
        answerers.InContext,
        answerers.KnnLabel,
        answerers.LengthExponent,
        answerers.SurfaceLogit,
        answerers.PMI,
        answerers.Contextual,
    ]


@hookimpl
def register_rules() -> list[type[rules.NamedRule]]:
    return [rules.Ban, rules.Force, rules.TopK, rules.Bias, rules.Temperature]
