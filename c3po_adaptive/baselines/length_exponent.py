"""How much an option's length should count, learned from labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..types import Prompt
from ._calibration import Scored
from ._fitted import Correction, FittedCalibration

EXPONENTS = np.linspace(0, 2, 41)
RANGE = (-6.0, 6.0)  # of the logarithm of what scores are multiplied with
EQUAL = 1e-7  # nats, below which two exponents explain the references alike


@dataclass(frozen=True)
class LengthExponent(FittedCalibration):
    """Scores Σ log p / length^a, with the exponent a that makes the references' right choices likeliest.

    Maximum likelihood of the right choice among the choices, over a from 0 (the sum) by 1 (the mean) to 2 and a
    temperature. Lengths are those that the format divides by, or tokens where it divides by nothing; where exponents
    explain the references alike, as in a lettered format, the format's own is kept.
    """

    name: ClassVar[str] = "length-exponent"

    def fit(self, references: Sequence[Scored], answers: NDArray[np.int64]) -> Correction:
        own = float(any(set(one.prompt.lengths) != {1.0} for one in references))
        fits = [_likeliest(references, answers, float(exponent)) for exponent in EXPONENTS]
        least = min(loss for loss, _ in fits)
        alike = [power for loss, power in fits if loss <= least + EQUAL]
        return min(alike, key=lambda power: abs(power.exponent - own))


@dataclass(frozen=True)
class Power:
    """The correction: scores ``scale`` · Σ log p / length^``exponent``."""

    exponent: float
    scale: float

    def __call__(self, asked: Scored) -> NDArray[np.float64]:
        return self.scale * asked.sums / _lengths(asked.prompt) ** self.exponent


def _lengths(prompt: Prompt) -> NDArray[np.float64]:
    """``[C]`` what the format divides by, or tokens where that is nothing."""
    undivided = set(prompt.lengths) == {1.0}
    return np.array([len(option) for option in prompt.options] if undivided else prompt.lengths, np.float64)


def _likeliest(references: Sequence[Scored], answers: NDArray[np.int64], exponent: float) -> tuple[float, Power]:
    """Of all scales with an exponent the likeliest, and the mean negative log-likelihood that it has."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    width = max(len(one.scores) for one in references)
    scores = np.full((len(references), width), -np.inf)
    for row, one in enumerate(references):
        scores[row, : len(one.scores)] = Power(exponent, 1.0)(one)

    def loss(scale: float) -> float:
        return -float(log_softmax(np.exp(scale) * scores, axis=1)[np.arange(len(answers)), answers].mean())

    found = minimize_scalar(loss, bounds=RANGE, method="bounded", options={"xatol": 1e-6})
    return float(found.fun), Power(exponent, float(np.exp(found.x)))
