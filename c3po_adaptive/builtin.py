"""The package's own strategies, registered like those of any plugin: what the folders of the roles export."""

from __future__ import annotations

from inspect import isabstract
from types import ModuleType
from typing import Any

from . import answerers, kernels, optimizers, retrievers, rules, selectors
from .hookspecs import hookimpl

JOIN_TWO = (kernels.Sum, kernels.Product, rules.Then)
"""Strategies that need others of their role; their names are reserved."""


def _exported(room: ModuleType) -> list[type[Any]]:
    """Its complete classes with a name of their own."""
    classes = [getattr(room, name) for name in room.__all__]
    return [cls for cls in classes if "name" in vars(cls) and not isabstract(cls) and cls not in JOIN_TWO]


@hookimpl
def register_optimizers() -> list[type[optimizers.PathwayOptimizer]]:
    return _exported(optimizers)


@hookimpl
def register_kernels() -> list[type[kernels.Kernel]]:
    return _exported(kernels)


@hookimpl
def register_retrievers() -> list[type[retrievers.Retriever]]:
    return _exported(retrievers)


@hookimpl
def register_layer_selectors() -> list[type[selectors.LayerSelector]]:
    return _exported(selectors)


@hookimpl
def register_answerers() -> list[type[answerers.AnswererStrategy]]:
    return _exported(answerers)


@hookimpl
def register_rules() -> list[type[rules.NamedRule]]:
    return _exported(rules)
