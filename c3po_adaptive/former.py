"""Names of before, which files and configurations of then still hold, and what they are called now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STRATEGIES = {("optimizer", "amortised-ngd"): "amortized-ngd", ("selector", "amortised"): "amortized"}
"""Strategies, by role and name."""

PARAMETERS = {
    "practice": "training",
    "target": "of",
    "candidates": "within_last",
    "parametrisation": "parametrization",
}
"""Parameters of strategies that have them under the new name."""

SETTINGS = {"target": "loss"}
"""Settings of re-mixing."""

FORMATS = {"normalise": "normalize"}
"""Settings of formats."""

PUBLIC = {"LabelledProblem": "LabeledProblem"}
"""Names at the package's root."""


def renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Keys as they are called now."""
    return {names.get(key, key): value for key, value in given.items()}
