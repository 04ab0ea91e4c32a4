"""Which layers matter, found exhaustively, and which cheap score finds them."""

from .study import redraw, run_faithfulness
from .truth import TRUTHS

__all__ = ["TRUTHS", "redraw", "run_faithfulness"]
