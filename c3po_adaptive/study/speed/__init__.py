"""What re-mixing costs: cases timed against plain answers, and searches against the exact one."""

from .config import SpeedConfig
from .run import run_speed
from .study import Speed

STUDY = Speed()

__all__ = ["STUDY", "Speed", "SpeedConfig", "run_speed"]
