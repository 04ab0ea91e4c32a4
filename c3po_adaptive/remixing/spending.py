"""What a batch of samples takes on its way through the remixer, phase by phase."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

from ..ledger import Entry, summed


class Losses(Protocol):
    """What is known of the losses of one problem."""

    @property
    def spent(self) -> list[Entry]:
        """So far, of each sample."""

    @property
    def prepared(self) -> list[Entry]:
        """What the tangents of each sample's neighbours took, in full even if they were kept."""

    def looked_at(self, b: int) -> bool:
        """Whether the neighbours of sample b were run along any pathway."""


class Spending:
    """Of B samples: what the losses took that were opened in each phase, and what answering them meanwhile took."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._opened: defaultdict[str, list[Losses]] = defaultdict(list)
        self._answered: list[Entry] = []

    def open(self, phase: str, losses: Losses) -> None:
        """Losses that a phase takes from now on."""
        self._opened[phase].append(losses)

    def answering(self, entries: Iterable[Entry]) -> None:
        """Answers on the way, which no sample is charged for."""
        self._answered.extend(entries)

    def close(self) -> None:
        """Let go of the losses: they and the batch know each other, and would wait for the garbage collector."""
        self._opened.clear()

    @property
    def phases(self) -> list[str]:
        """In which losses were opened."""
        return list(self._opened)

    def of(self, phase: str) -> list[Entry]:
        """What the losses of a phase took so far, of each sample."""
        return totals([losses.spent for losses in self._opened[phase]], self._samples)

    @property
    def prepared(self) -> list[Entry]:
        """What the tangents of each sample's neighbours took, in full even if they were kept; once."""
        each = [losses.prepared for losses in self._losses]
        return [max(entries, key=lambda entry: entry.flops) for entries in zip(*each, strict=True)]

    @property
    def looked_at(self) -> list[bool]:
        """Whether any loss looked at each sample's neighbours."""
        return [any(losses.looked_at(b) for losses in self._losses) for b in range(self._samples)]

    @property
    def flops(self) -> float:
        """All of it together; the samples' and the neighbours' own prompts not counted."""
        opened = [entry for phase in self._opened for entry in self.of(phase)]
        return summed([*opened, *self.prepared, *self._answered]).flops

    @property
    def _losses(self) -> list[Losses]:
        return [losses for opened in self._opened.values() for losses in opened]


def totals(each: Sequence[Sequence[Entry]], samples: int) -> list[Entry]:
    """Sums over losses, sample by sample."""
    return [summed(entries[b] for entries in each) for b in range(samples)]
