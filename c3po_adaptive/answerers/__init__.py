"""Answerers: what an arm is. The remixer is one; others stand beside it as baselines."""

from .base import Answerer, AnswererStrategy, Bench
from .informed import Informed
from .remix import Remix
from .sound_routing import SoundRouting

__all__ = ["Answerer", "AnswererStrategy", "Bench", "Informed", "Remix", "SoundRouting"]
