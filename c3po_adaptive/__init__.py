"""Re-mix the expert pathways of frozen Mixture-of-Experts language models at test time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Optimizer
    from .attribution import attribute
    from .errors import (
        ArtifactError,
        C3POError,
        DataError,
        ModelError,
        PluginError,
        SettingError,
        ShapeError,
        UnknownNameError,
    )
    from .hookspecs import hookimpl
    from .kernels.base import Kernel
    from .ledger import Cost, Ledger
    from .models.loading import load_moe_model
    from .models.routed import RoutedModel
    from .optimizers.base import PathwayOptimizer
    from .optimizers.descent import Descent
    from .problem import LabelledProblem, Problem
    from .references.reference_set import ReferenceSet
    from .registry import default_registry
    from .remixing.remixer import Remixer
    from .retrievers.base import Hits, Index, Retriever
    from .selectors.base import LayerSelector
    from .selectors.scored import Scored
    from .types import Answer, Neighbours, Pathway, Prompt, Question, Selection

# Loaded on first use: importing the package must not import torch's and scikit-learn's weight with it.
_HOME = {
    "Optimizer": "api",
    **dict.fromkeys(
        (
            "ArtifactError",
            "C3POError",
            "DataError",
            "ModelError",
            "PluginError",
            "SettingError",
            "ShapeError",
            "UnknownNameError",
        ),
        "errors",
    ),
    "hookimpl": "hookspecs",
    "default_registry": "registry",
    "Kernel": "kernels.base",
    "RoutedModel": "models.routed",
    "load_moe_model": "models.loading",
    "PathwayOptimizer": "optimizers.base",
    "Descent": "optimizers.descent",
    "LabelledProblem": "problem",
    "Problem": "problem",
    "ReferenceSet": "references.reference_set",
    "Remixer": "remixing.remixer",
    "Hits": "retrievers.base",
    "Index": "retrievers.base",
    "Retriever": "retrievers.base",
    "LayerSelector": "selectors.base",
    "Scored": "selectors.scored",
    "attribute": "attribution",
    **dict.fromkeys(("Cost", "Ledger"), "ledger"),
    **dict.fromkeys(("Answer", "Neighbours", "Pathway", "Prompt", "Question", "Selection"), "types"),
}
__all__ = [
    "Answer",
    "ArtifactError",
    "C3POError",
    "Cost",
    "DataError",
    "Descent",
    "Hits",
    "Index",
    "Kernel",
    "LabelledProblem",
    "LayerSelector",
    "Ledger",
    "ModelError",
    "Neighbours",
    "Optimizer",
    "Pathway",
    "PathwayOptimizer",
    "PluginError",
    "Problem",
    "Prompt",
    "Question",
    "ReferenceSet",
    "Remixer",
    "Retriever",
    "RoutedModel",
    "Scored",
    "Selection",
    "SettingError",
    "ShapeError",
    "UnknownNameError",
    "attribute",
    "default_registry",
    "hookimpl",
    "load_moe_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
