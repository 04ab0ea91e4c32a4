"""Kernels of a distance, and the scale on which they fall off."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from pydantic import PositiveFloat

from ..errors import DataError, SettingError
from .base import Array, Kernel, ReferenceFeatures

LengthScale = PositiveFloat | Literal["median"]

_SAMPLE = 2000  # two million pairs settle a median; all pairs of a large reference set would not fit in memory


def median_distance(references: Array, *, sample: int = _SAMPLE, seed: int = 0) -> float:
    """The median Euclidean distance between pairs of ``references [N, D]``, or of a seeded sample of them.

    Raises:
        DataError: if no length follows from the references.
    """
    from scipy.spatial.distance import pdist

    if len(references) < 2:
        raise DataError(
            f"Expected at least two references for a median distance, got {len(references)}; "
            "set length_scale to a number, or add references."
        )
    if len(references) > sample:
        references = references[np.random.default_rng(seed).choice(len(references), sample, replace=False)]
    median = float(np.median(pdist(references)))
    if not median > 0 or not np.isfinite(median):
        raise DataError(
            f"Expected references whose median distance is a number > 0, got {median}; "
            "remove duplicates and NaN, or set length_scale to a number."
        )
    return median


@dataclass(frozen=True)
class Stationary(Kernel):
    """A kernel of the Euclidean distance, in units of ``length_scale``.

    Attributes:
        length_scale: a distance (unit vectors lie between 0 and 2 apart), or "median": that of the references.
    """

    length_scale: LengthScale = 0.5

    def prepare(self, references: ReferenceFeatures) -> Self:
        return replace(self, length_scale=median_distance(references.text)) if self.length_scale == "median" else self

    def scale(self) -> float:
        """The length scale in use.

        Raises:
            SettingError: if it is still "median": it depends on references that this kernel has not seen.
        """
        if self.length_scale == "median":
            raise SettingError(
                f'Expected {self.name}.length_scale to be a number by now, got "median"; '
                "call kernel = kernel.prepare(references) first."
            )
        return float(self.length_scale)
