"""Answerers: what an arm is. The remixer is one; others re-mix nothing, or correct the scores of another answerer."""

from .along_rule import AlongRule
from .base import Answerer, AnswererStrategy, AnsweringContext
from .calibrations import PMI, Contextual
from .dense_model import Dense
from .fitted import LengthExponent
from .neighbours import InContext, KnnLabel
from .remix import Remix
from .surface_logit import SurfaceLogit

__all__ = [
    "PMI",
    "AlongRule",
    "Answerer",
    "AnswererStrategy",
    "AnsweringContext",
    "Contextual",
    "Dense",
    "InContext",
    "KnnLabel",
    "LengthExponent",
    "Remix",
    "SurfaceLogit",
]
