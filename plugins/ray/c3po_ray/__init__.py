"""Studies on many machines: the engine ``ray``."""

from __future__ import annotations

import pluggy

from .executor import RayExecutor

__all__ = ["RayExecutor"]

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_executors() -> dict[str, type[RayExecutor]]:
    return {"ray": RayExecutor}
