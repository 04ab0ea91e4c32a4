"""Answerers: what an arm is. The remixer is one; others re-mix nothing."""

from .along_rule import AlongRule
from .base import Answerer, AnswererStrategy, AnsweringContext
from .remix import Remix

__all__ = [
    "AlongRule",
    "Answerer",
    "AnswererStrategy",
    "AnsweringContext",
    "Remix",
]
