"""Routers mended by labeled questions: the command ``c3po repair`` and the answerer ``repaired``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from c3po_adaptive import AnswererStrategy

    from .left_out import Repair
    from .mend import repair

__all__ = ["Repair", "repair"]

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    from .answerer import Repaired

    return [Repaired]


def __getattr__(name: str) -> Any:
    if name == "repair":
        from .mend import repair

        return repair
    if name == "Repair":
        from .left_out import Repair

        return Repair
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
