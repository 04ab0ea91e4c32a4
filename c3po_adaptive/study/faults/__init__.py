"""Does a method find what was planted? Known faults in routers, and every selector and optimizer held against them."""

from .config import FaultsConfig
from .run import run_faults
from .study import Faults

STUDY = Faults()

__all__ = ["STUDY", "Faults", "FaultsConfig", "run_faults"]
