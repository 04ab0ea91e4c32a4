"""Which layers matter, found exhaustively, and which cheap score finds them."""

from .config import FaithfulnessConfig
from .run import run_faithfulness
from .study import Faithfulness
from .truth import TRUTHS

STUDY = Faithfulness()

__all__ = ["STUDY", "TRUTHS", "Faithfulness", "FaithfulnessConfig", "run_faithfulness"]
