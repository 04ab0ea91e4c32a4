"""Routers mended by labeled questions: the command ``c3po repair`` and the answerer ``repaired``."""

from __future__ import annotations

from c3po_adaptive import AnswererStrategy, hookimpl

from .answerer import Repaired
from .left_out import Repair
from .mend import repair

__all__ = ["Repair", "Repaired", "repair"]


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [Repaired]


@hookimpl
def register_commands() -> dict[str, str]:
    return {"repair": "c3po_repair.command:repair"}
