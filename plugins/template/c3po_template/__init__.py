"""A plugin to begin with: a small package with a strategy that works."""

from .new_plugin import new_plugin

__all__ = ["new_plugin"]
