"""Arms side by side on the same questions, with controls, paired intervals and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import attach
from .comparison_config import ComparisonConfig as ComparisonConfig

if TYPE_CHECKING:
    from .comparison_study import STUDY as STUDY
    from .comparison_study import ComparisonStudy as ComparisonStudy
    from .comparison_worker import ComparisonWorker as ComparisonWorker

# What takes seconds to import, when it is asked for: a configuration is checked without it.
__getattr__, __dir__, __all__ = attach(__name__, __file__)
