"""From records to statistics and summaries; from here, what companions hold answers against each other by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import attach

if TYPE_CHECKING:
    from ..records.summary import SIGNIFICANT as SIGNIFICANT
    from .comparison_folder import records_in as records_in
    from .comparison_folder import summary_in as summary_in
    from .crossed import Crossed as Crossed
    from .dataset_in_words import DatasetsInWords as DatasetsInWords
    from .judging_rules import rules as rules
    from .over_kinds import over_units as over_units
    from .paired import differences as differences
    from .power import detectable as detectable
    from .statistics import FEW_FLIPS as FEW_FLIPS
    from .statistics import TAIL as TAIL
    from .statistics import compare as compare
    from .statistics import first_draw as first_draw
    from .statistics import flips as flips
    from .statistics import gold_nll as gold_nll
    from .statistics import holm as holm
    from .statistics import mean as mean
    from .statistics import on_common_questions as on_common_questions
    from .statistics import over_flips as over_flips
    from .statistics import over_values as over_values
    from .unfinished_run import whole_draws as whole_draws

# NumPy and SciPy take their time to import: what asks for them is, when it is asked for.
__getattr__, __dir__, __all__ = attach(__name__, __file__)
