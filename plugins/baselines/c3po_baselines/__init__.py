"""What others come to where no pathway is changed: scores corrected, examples, votes, another model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from .calibrations import PMI, Contextual
from .dense_model import Dense
from .fitted import LengthExponent
from .neighbours import InContext, KnnLabel
from .surface_logit import SurfaceLogit

if TYPE_CHECKING:
    from c3po_adaptive import AnswererStrategy

__all__ = ["PMI", "Contextual", "Dense", "InContext", "KnnLabel", "LengthExponent", "SurfaceLogit"]

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [Contextual, Dense, InContext, KnnLabel, LengthExponent, PMI, SurfaceLogit]
