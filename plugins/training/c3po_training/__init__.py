"""Training of Mixture-of-Experts models, watched."""

from .monitor import MoEMonitor as MoEMonitor

__all__ = ["MoEMonitor"]
