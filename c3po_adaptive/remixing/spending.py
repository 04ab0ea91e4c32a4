"""What a batch of samples takes on its way through the remixer, phase by phase: FLOPs, and seconds."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ..ledger import Entry, summed
from ..routing.scores import TailScores

NEAR, MINE = "neighbours", "samples"
Used = dict[str, TailScores]
"""The tails of one problem's losses, from when one is first asked for: of the neighbours, and of the samples."""


class Spending:
    """Of B samples: what the tails took that were opened in each phase, and what answering on the way took."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._opened: defaultdict[str, list[Used]] = defaultdict(list)
        self._answered: list[Entry] = []

    def open(self, phase: str) -> Used:
        """For one problem, whose tails a phase takes from now on."""
        self._opened[phase].append({})
        return self._opened[phase][-1]

    def answering(self, entries: Iterable[Entry]) -> None:
        """Answers on the way, which no sample is charged for."""
        self._answered.extend(entries)

    @property
    def phases(self) -> list[str]:
        """In which problems were opened."""
        return list(self._opened)

    def of(self, phase: str) -> list[Entry]:
        """What the losses of a phase took so far, of each sample."""
        return self._totals([tails.spent for used in self._opened[phase] for tails in used.values()])

    @property
    def prepared(self) -> list[Entry]:
        """What the tangents of each sample's neighbours took, in full even if they were cached; once."""
        each = [self._totals([tails.prepared for tails in used.values()]) for used in self._problems]
        return [max(entries, key=lambda entry: entry.flops) for entries in zip(*each, strict=True)]

    @property
    def looked_at(self) -> list[bool]:
        """Whether each sample's neighbours were run along any pathway."""
        near = [used[NEAR].spent for used in self._problems if NEAR in used]
        return [any(spent[b].passes > 0 for spent in near) for b in range(self._samples)]

    @property
    def flops(self) -> float:
        """All of it together; the samples' and the neighbours' own prompts not counted."""
        opened = [entry for phase in self._opened for entry in self.of(phase)]
        return summed([*opened, *self.prepared, *self._answered]).flops

    @property
    def _problems(self) -> list[Used]:
        return [used for opened in self._opened.values() for used in opened]

    def _totals(self, each: Sequence[Sequence[Entry]]) -> list[Entry]:
        """Sums, sample by sample."""
        return [summed(entries[b] for entries in each) for b in range(self._samples)]


class Clock:
    """Seconds of each phase, for one of ``samples``; a phase inside another stops the other's time."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    @property
    def phase(self) -> str:
        """The one that runs, if any."""
        return self._running[-1] if self._running else ""

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self._turn()
        self._running.append(phase)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += (now - self._since) / self.samples
        self._since = now
