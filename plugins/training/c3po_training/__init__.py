"""Training of Mixture-of-Experts models: watched, and along routes."""

from .monitor import MoEMonitor as MoEMonitor
from .replayed_trainer import ReplayedTrainer as ReplayedTrainer
from .replayed_trainer import with_routes as with_routes

__all__ = ["MoEMonitor", "ReplayedTrainer", "with_routes"]
