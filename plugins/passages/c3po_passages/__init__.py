"""Knowledge before the question: the answerers ``informed`` and ``joint``, which retrieve passages from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from .informed import Informed
from .joint import Joint

if TYPE_CHECKING:
    from c3po_adaptive import AnswererStrategy

__all__ = ["Informed", "Joint"]

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [Informed, Joint]
