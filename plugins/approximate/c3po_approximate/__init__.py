"""Approximate search among many references, by FAISS: a small-world graph, and an inverted file."""

from __future__ import annotations

import pluggy

from .search import FaissHNSW, FaissIVF

__all__ = ["FaissHNSW", "FaissIVF"]

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_retrievers() -> list[type[FaissHNSW] | type[FaissIVF]]:
    return [FaissHNSW, FaissIVF]
