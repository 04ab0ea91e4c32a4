"""Which layers matter, found exhaustively, and which cheap score finds them."""

from .faithfulness_config import FaithfulnessConfig
from .faithfulness_study import Faithfulness
from .layer_effects import TRUTHS

STUDY = Faithfulness()

__all__ = ["STUDY", "TRUTHS", "Faithfulness", "FaithfulnessConfig"]
