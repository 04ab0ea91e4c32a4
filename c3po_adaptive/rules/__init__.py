"""Rules by name: what each MoE layer does with every token, as one text says it."""

from .ban import Ban
from .base import NamedRule, Then
from .bias import Bias
from .force import Force
from .temperature import Temperature
from .top_k import TopK

__all__ = ["Ban", "Bias", "Force", "NamedRule", "Temperature", "Then", "TopK"]
