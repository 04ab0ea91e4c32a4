"""NaN and infinity are refused where they come up, before an option is chosen by them."""

from __future__ import annotations

import math

from torch import Tensor

from ..errors import ModelError


class NotFinite(ModelError):
    """A model's numbers overflow."""

    @classmethod
    def of(cls, what: str, numbers: Tensor) -> NotFinite:
        """The error of numbers that the model itself made, on its own or after its routing was changed."""
        return cls(
            f"Expected finite {what}, got NaN or infinity: the model's own weights, or routing that was changed "
            f"before, lead beyond what {str(numbers.dtype).removeprefix('torch.')} holds; ask for a smaller change of "
            "routing, or load the model in float32."
        )


def finite(numbers: Tensor, real: Tensor | None = None) -> bool:
    """Whether ``numbers [R, n]`` are finite, padding aside: ``real [R]`` bool; None: there is none."""
    if math.isfinite(numbers.detach().sum().item()):  # asked at every layer, so it has to take no time
        return True
    return bool((numbers if real is None else numbers[real.to(numbers.device)]).isfinite().all())
