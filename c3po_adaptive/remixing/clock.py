"""Seconds by phase."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


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
