"""Baselines: answerers that re-mix nothing, or correct the scores of another answerer."""

from .contextual import Contextual
from .in_context import InContext
from .knn_label import KnnLabel
from .length_exponent import LengthExponent
from .pmi import PMI
from .surface_logit import SurfaceLogit

__all__ = [
    "PMI",
    "Contextual",
    "InContext",
    "KnnLabel",
    "LengthExponent",
    "SurfaceLogit",
]
