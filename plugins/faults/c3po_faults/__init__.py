"""Known faults in routers: planted, written, told to strategies that say so; and does a method find and mend them? The
command ``c3po fault``, the kind of study ``faults``, the model ``smollm2-moe-misrouted``, and three upper bounds."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from c3po_adaptive import AnswererStrategy, LayerSelector, PathwayOptimizer

    from .fault_files import fault_in, write_faulty
    from .faults import Fault, layers_of
    from .planting import known_fault, planted, sound
    from .study import Faults

_HOME = {
    "Fault": "faults",
    "fault_in": "fault_files",
    "known_fault": "planting",
    "layers_of": "faults",
    "planted": "planting",
    "sound": "planting",
    "write_faulty": "fault_files",
}
__all__ = ["Fault", "fault_in", "known_fault", "layers_of", "planted", "sound", "write_faulty"]

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    from .fault_undone import FaultUndone

    return [FaultUndone]


@hookimpl
def register_layer_selectors() -> list[type[LayerSelector]]:
    from .fault_layers import FaultLayers

    return [FaultLayers]


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    from .sound_routing import SoundRouting

    return [SoundRouting]


@hookimpl
def register_studies() -> dict[str, Callable[[], Faults]]:
    return {"faults": _study}


def _study() -> Faults:
    """What takes seconds to import, when it is asked for."""
    from .study import Faults

    return Faults()


def __getattr__(name: str) -> Any:
    """Each when it is asked for: the registry is loaded without what they load."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
