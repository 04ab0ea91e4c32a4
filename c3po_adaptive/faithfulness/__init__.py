"""Which layers matter, found exhaustively, and which cheap score finds them."""

from .study import run_faithfulness
from .truth import TRUTHS

__all__ = ["TRUTHS", "run_faithfulness"]
