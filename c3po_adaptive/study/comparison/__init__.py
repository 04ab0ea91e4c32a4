"""Arms side by side on the same questions, with controls, paired intervals and costs."""

from .comparison_config import ComparisonConfig
from .comparison_study import ComparisonStudy
from .evaluation import evaluate

STUDY = ComparisonStudy()

__all__ = ["STUDY", "ComparisonConfig", "ComparisonStudy", "evaluate"]
