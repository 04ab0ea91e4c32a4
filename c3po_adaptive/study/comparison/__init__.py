"""Arms side by side on the same questions, with controls, paired intervals and costs."""

from .config import ComparisonConfig
from .run import evaluate
from .study import Comparison

STUDY = Comparison()

__all__ = ["STUDY", "Comparison", "ComparisonConfig", "evaluate"]
