"""Errors: one root, and children that are builtin errors too, so ``except ValueError`` keeps working.

A message says what was expected, what came, and what to do next.
"""


class C3POError(Exception):
    """Root of every error raised on purpose by this package."""


class DataError(C3POError, ValueError):
    """A question file, reference set or run folder does not hold what it should."""


class ShapeError(C3POError, ValueError):
    """A tensor has the wrong shape, or values no routing weight can have."""


class SettingError(C3POError, ValueError):
    """A strategy or configuration was given a value it cannot use."""


class UnknownNameError(C3POError, LookupError):
    """No strategy, arm, task or model of that name."""


class PluginError(C3POError, TypeError):
    """A plugin breaks its contract, clashes with another, or raises."""


class ModelError(C3POError, RuntimeError):
    """A model cannot be loaded, or its routing cannot be reached."""


class ArtifactError(C3POError, OSError):
    """A file that the package fetches or ships is missing, cut short or altered."""
