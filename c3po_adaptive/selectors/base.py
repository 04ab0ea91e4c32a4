"""The layer selector role: which layers and experts are re-mixed, per sample; perhaps none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ..problem import Problem
from ..types import Selection


class LayerSelector(ABC):
    """Subclasses are frozen dataclasses with a ``name``.

    Attributes:
        needs_neighbours: False for a selector that never looks at references; then none are retrieved for it.
    """

    name: ClassVar[str]
    needs_neighbours: ClassVar[bool] = True

    @abstractmethod
    def select(self, problem: Problem) -> Selection:
        """Choose layers and experts of each sample. A sample with an empty mask is left alone."""
