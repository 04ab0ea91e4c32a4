"""How far two loads are apart, beside how far two samples of one kind of text would be, or two readings of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING, Any, NamedTuple

from .expert_load import ExpertLoad

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

FEWEST = 10
"""Texts for intervals: of fewer, ones that hold for all experts at once say nothing."""


class ExpertChange(NamedTuple):
    """An expert's load in two sets, as shares of its layer's; the interval holds for all experts of all layers at once
    (95 %, Student's t of the smaller set's texts, Bonferroni, cut to what shares can be), None where a set has fewer
    than ten texts."""

    layer: int
    expert: int
    one: float
    other: float
    interval: tuple[float, float] | None

    @property
    def change(self) -> float:
        """Other minus one."""
        return self.other - self.one

    @property
    def in_words(self) -> str:
        """In a line, in points."""
        low_high = "" if self.interval is None else " [{:+.1f}, {:+.1f}]".format(*(100 * x for x in self.interval))
        return (
            f"layer {self.layer}, expert {self.expert}: {100 * self.one:.1f} % → {100 * self.other:.1f} %, "
            f"{100 * self.change:+.1f}{low_high} points".replace("-", "−")
        )


class Paired(NamedTuple):
    """Of two readings of the same texts the standard errors ``[L, E]`` of how the load changes, and of how many draws
    that is known."""

    errors: Floats
    draws: int

    @classmethod
    def of(cls, one: Floats, other: Floats) -> Paired:
        """Of the counts ``[P, L, E]`` in each reading, the same texts in each part; each a ratio of sums over parts
        (linearized)."""
        import numpy as np

        read = (one + other).any((1, 2))
        n, change = int(read.sum()), (_off(other) - _off(one))[read]
        return cls(np.sqrt(n / (n - 1) * (change**2).sum(0)) if n > 1 else change[0] * np.nan, n)


def _off(counts: Floats) -> Floats:
    """``[P, L, E]`` by how much each part moves the load."""
    whole = counts.sum(0)
    total = whole.sum(-1, keepdims=True).clip(min=1)
    off: Floats = (counts - whole / total * counts.sum(-1, keepdims=True)) / total
    return off


@dataclass(frozen=True, eq=False)
class LoadDifference:
    """Two loads of the same layers and experts.

    Attributes:
        layers: decoder layer of each of the L rows.
        one: a load.
        other: that is held against it.
        paired: standard errors of differences text by text, where both are of the same texts; None: they are not.
    """

    layers: tuple[int, ...]
    one: ExpertLoad
    other: ExpertLoad
    paired: Paired | None = None

    def __repr__(self) -> str:
        """In a few lines."""
        apart, chance = self.apart, float(self.by_chance.mean())
        most = int(apart.argmax())
        known = "" if chance != chance else f", {100 * chance:.1f} % by chance"
        lines = [
            f"Load of {self.other.size}, beside that of {self.one.size}: {100 * apart.mean():.1f} % is on other "
            f"experts{known}; most in layer {self.layers[most]}, {100 * apart[most]:.1f} %",
            *(change.in_words for change in self.most_changed()),
            *self.remarks,
        ]
        return "\n  ".join(lines)

    @property
    def change(self) -> Floats:
        """``[L, E]`` the other's load minus the one's."""
        change: Floats = self.other.load - self.one.load
        return change

    @property
    def apart(self) -> Floats:
        """``[L]`` total variation: the share of the load that has to move to make the one the other."""
        import numpy as np

        apart: Floats = np.abs(self.change).sum(-1) / 2
        return apart

    @property
    def by_chance(self) -> Floats:
        """``[L]`` the total variation to expect of two samples of one kind of text, of these sizes, or, of pairs, of
        texts that change at random: half the sum of mean absolute errors, √(2/π) of a standard error each. NaN where a
        set has one text."""
        import numpy as np

        chance: Floats = np.sqrt(2 / pi) * self._errors.sum(-1) / 2
        return chance

    @property
    def _errors(self) -> Floats:
        import numpy as np

        if self.paired is not None:
            return self.paired.errors
        errors: Floats = np.hypot(self.one.errors, self.other.errors)
        return errors

    @property
    def _draws(self) -> int:
        """Of the smaller set: texts, or parts of them that were paired."""
        return min(self.one.texts, self.other.texts) if self.paired is None else self.paired.draws

    @property
    def remarks(self) -> tuple[str, ...]:
        """What intervals and chance are of, in lines, where it is not two sets of enough texts."""
        pairs = "both are of the same texts, and compared text by text"
        few = f"no intervals: they take {FEWEST} texts, and there are {self._draws}"
        return *([pairs] if self.paired else []), *([few] if self._draws < FEWEST else [])

    def most_changed(self, count: int = 5) -> list[ExpertChange]:
        """The experts whose load changes most, over all layers."""
        import numpy as np
        from scipy.stats import t

        change, draws = self.change, self._draws
        wide = t.ppf(1 - 0.025 / change.size, draws - 1) * self._errors if draws >= FEWEST else None
        found = []
        for place in np.abs(change).ravel().argsort(kind="stable")[::-1][:count].tolist():
            row, expert = divmod(place, change.shape[1])
            middle = float(change[row, expert])
            most = 0.0 if wide is None else float(wide[row, expert])
            interval = None if wide is None else (max(middle - most, -1.0), min(middle + most, 1.0))
            pair = float(self.one.load[row, expert]), float(self.other.load[row, expert])
            found.append(ExpertChange(self.layers[row], expert, *pair, interval))
        return found
