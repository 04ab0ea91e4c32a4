"""What an answer takes: token × layer passes, FLOPs by part and direction, and seconds, phase by phase."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Work:
    """FLOPs of one direction by part; a multiply-add is two.

    Attributes:
        attention: products of queries, keys and values.
        linear: all other matrices outside routed experts, router and head (projections, shared and dense feed-forward).
        router: the routers.
        experts: the routed experts.
        head: the language-model head.
    """

    attention: float = 0.0
    linear: float = 0.0
    router: float = 0.0
    experts: float = 0.0
    head: float = 0.0

    @property
    def total(self) -> float:
        return float(sum(vars(self).values()))

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def times(self, factor: float) -> Work:
        """So many of it."""
        return Work(*(factor * value for value in vars(self).values()))


@dataclass(frozen=True)
class Entry:
    """One phase of one sample.

    Attributes:
        passes: tokens times decoder layers, forward and backward passes each counted.
        forward: FLOPs of forward passes.
        backward: FLOPs of backward passes.
        seconds: wall clock of the batch, in equal parts.
    """

    passes: float = 0.0
    forward: Work = Work()
    backward: Work = Work()
    seconds: float = 0.0

    @property
    def flops(self) -> float:
        return self.forward.total + self.backward.total

    def __add__(self, other: Entry) -> Entry:
        return Entry(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def times(self, factor: float) -> Entry:
        """So many of it."""
        return Entry(
            self.passes * factor, self.forward.times(factor), self.backward.times(factor), self.seconds * factor
        )

    def lasting(self, seconds: float) -> Entry:
        """The same work, and how long it took."""
        return replace(self, seconds=seconds)


def summed(entries: Iterable[Entry]) -> Entry:
    """All together."""
    return sum(entries, Entry())


@dataclass(frozen=True)
class Cost:
    """FLOPs by phase."""

    prefill: float = 0.0
    embedding: float = 0.0
    retrieval: float = 0.0
    references: float = 0.0
    attribution: float = 0.0
    optimisation: float = 0.0
    answer: float = 0.0

    @property
    def total(self) -> float:
        return float(sum(vars(self).values()))

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{k: v + getattr(other, k) for k, v in vars(self).items()})


@dataclass(frozen=True)
class Ledger:
    """The phases of an answer: the question's prompt; embedding it, looking up neighbours, and their prompts; choosing
    layers; optimizing ω; and scoring the options along it.

    A neighbour's prompt counts in full even if it was cached: what ran before must not make a sample look cheaper. What
    is computed once for a reference, whatever is asked later (its own pathway, gradient and change), belongs to the
    set and counts nowhere here.
    """

    prefill: Entry = Entry()
    embedding: Entry = Entry()
    retrieval: Entry = Entry()
    references: Entry = Entry()
    attribution: Entry = Entry()
    optimisation: Entry = Entry()
    answer: Entry = Entry()

    @property
    def cost(self) -> Cost:
        return Cost(**{phase: entry.flops for phase, entry in vars(self).items()})

    @property
    def seconds(self) -> float:
        return float(sum(entry.seconds for entry in vars(self).values()))

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})
