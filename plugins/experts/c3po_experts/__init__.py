"""Which experts a set of texts needs, in one order."""

from .ranking import RankedExpert as RankedExpert
from .ranking import Ranking as Ranking
from .ranking import rank_experts as rank_experts

__all__ = ["RankedExpert", "Ranking", "rank_experts"]
