"""What re-mixing costs, measured: answers against plain answers, and the search for neighbours."""

from .study import run_speed

__all__ = ["run_speed"]
