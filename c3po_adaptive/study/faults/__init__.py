"""Does a method find what was planted? Known faults in routers, and every selector and optimizer held against them."""

from .faults_config import FaultsConfig
from .faults_study import Faults

STUDY = Faults()

__all__ = ["STUDY", "Faults", "FaultsConfig"]
