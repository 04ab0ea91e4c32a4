"""What a study takes, told before it runs: memory, FLOPs, hours, disk, and what its references take once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from ..ledger import Entry, Ledger, summed
from ..models.footprint import GIB, Footprint
from .needs import ArmNeeds, SetNeeds
from .pace import Pace

PROMPTS = ("prefill", "references")  # phases that run whole prompts
TAILS = ("attribution", "optimisation", "answer")  # and those that run few tokens, many times
MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """Bytes that are needed at once.

    Attributes:
        weights: of the model.
        kept: prefilled prompts that are kept between arms.
        batch: of running a batch of prompts, or a step of the descent on it: the larger.
        process: Python, its libraries and the embedder; 0 on a device other than the CPU.
        wanted: of prefilled prompts that arms find again: a batch of questions (arms take turns), and references.
    """

    weights: float
    kept: float
    batch: float
    process: float
    wanted: float

    @property
    def total(self) -> float:
        return self.weights + self.kept + self.batch + self.process

    @property
    def found_again(self) -> float:
        """The share of prompts that an arm finds from the arm before it."""
        return min(1.0, self.kept / self.wanted) if self.wanted else 1.0


@dataclass(frozen=True)
class Forecast:
    """What a study takes.

    Attributes:
        weights: sizes of the model.
        memory: what is needed where it is run.
        room: bytes that are free there, or that its data sheet has; None: not known.
        arms: what each takes on each data set.
        sets: what references take once, by data set.
        pace: how fast that is; None: not foreseen.
        run_bytes: of the run's folder.
        notes: what a person has to know of all this.
        whole: whether re-mixing is in it; else plain answers alone are.
    """

    weights: Footprint
    memory: Memory
    room: float | None
    arms: Sequence[ArmNeeds]
    sets: Mapping[str, SetNeeds]
    pace: Pace | None
    run_bytes: float
    notes: Sequence[str] = ()
    whole: bool = True

    @cached_property
    def ledger(self) -> Ledger:
        """Of all answers."""
        return sum((one.ledger for one in self.arms), Ledger())

    @property
    def references(self) -> float:
        """FLOPs that references take once: their prompts, and what is kept of each."""
        return sum(one.flops for one in self.sets.values()) + sum(map(self._kept, self._names))

    @property
    def learned(self) -> float:
        """FLOPs that arms take once to learn."""
        return sum(one.learned for one in self.arms)

    @property
    def flops(self) -> float:
        """All of them, as ledgers count: what a kept prompt would take counts in full."""
        return self.ledger.cost.total + self.references + self.learned

    @property
    def hours(self) -> float | None:
        """None if the pace is not known."""
        return None if self.pace is None else sum(self._seconds(name, self.pace) for name in self._names) / 3600

    @property
    def references_hours(self) -> float | None:
        """Of these, what references take once."""
        if self.pace is None:
            return None
        prompts = sum(max(one.seconds, one.flops / self.pace.prompts) for one in self.sets.values())
        return (prompts + sum(map(self._kept, self._names)) / self.pace.tails) / 3600

    @property
    def references_bytes(self) -> float:
        """Of sets, and of what is kept beside them."""
        return sum(one.disk_bytes for one in self.sets.values())

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(one.dataset for one in self.arms))

    def _of(self, dataset: str) -> list[ArmNeeds]:
        return [one for one in self.arms if one.dataset == dataset]

    def _kept(self, dataset: str) -> float:
        """Arms share it: at least what the one takes that keeps most."""
        return max((one.kept for one in self._of(dataset)), default=0.0)

    def _seconds(self, dataset: str, pace: Pace) -> float:
        """On one data set: nothing is faster than this machine is with a model that takes next to no FLOPs."""
        again, arms = 1 - self.memory.found_again, self._of(dataset)
        once = self.sets.get(dataset, SetNeeds(0.0))
        plain = arms[0].ledger.prefill.flops / arms[0].draws
        prompts = plain + again * (sum(one.ledger.prefill.flops for one in arms) - plain)
        prompts += once.flops + again * sum(one.ledger.references.flops for one in arms)
        host = once.seconds + sum(getattr(one.ledger, phase).seconds for one in arms for phase in PROMPTS)
        taken = float(max(host, prompts / pace.prompts))
        for one in arms:
            entries = [getattr(one.ledger, phase) for phase in TAILS]
            taken += sum(max(entry.seconds, entry.flops / pace.tails) for entry in entries)
            taken += one.ledger.embedding.seconds + one.ledger.retrieval.seconds + one.learned / pace.tails
        return taken + self._kept(dataset) / pace.tails

    def values(self) -> dict[str, Any]:
        """Plain ones, for programs."""
        by_arm: dict[str, float] = {}
        for one in self.arms:
            by_arm[one.arm] = by_arm.get(one.arm, 0.0) + one.ledger.cost.total
        return {
            **asdict(self.weights),
            "whole": self.whole,
            "memory": {**asdict(self.memory), "total": self.memory.total, "room": self.room},
            "flops": {
                "total": self.flops,
                "references": self.references,
                "learned": self.learned,
                "by_phase": vars(self.ledger.cost),
                "by_part": self._by_part(),
                "by_arm": by_arm,
            },
            "pace": None if self.pace is None else asdict(self.pace),
            "hours": self.hours,
            "references_hours": self.references_hours,
            "disk": {"run": self.run_bytes, "references": self.references_bytes},
            "notes": list(self.notes),
        }

    def _by_part(self) -> dict[str, float]:
        phases: list[Entry] = [e for phase, e in vars(self.ledger).items() if phase != "embedding"]
        both = (entry := summed(phases)).forward + entry.backward
        return {f.name: getattr(both, f.name) for f in fields(both)} | {"embedder": self.ledger.embedding.flops}

    def lines(self) -> Iterator[str]:
        """For a person to read."""
        yield f"model: {self.weights}"
        yield f"memory: {self._memory_in_words()}"
        yield from self._flops_in_words()
        yield f"hours: {self._hours_in_words()}"
        yield (
            f"disk: {_size(self.run_bytes)} for the run's folder, {_size(self.references_bytes)} in the cache for "
            f"reference sets and what is kept of them, {_size(self.weights.bytes)} for the weights"
        )
        yield from self.notes

    def _memory_in_words(self) -> str:
        m = self.memory
        parts = {"weights": m.weights, "prompts that are kept": m.kept, "a batch": m.batch, "the process": m.process}
        told = ", ".join(f"{_size(part)} {name}" for name, part in parts.items() if part)
        if self.room is None:
            return f"{_size(m.total)}: {told}"
        fits = "" if m.total <= self.room else "; this does not fit: take a smaller batch_size or dtype"
        return f"{_size(m.total)} of {_size(self.room)}: {told}{fits}"

    def _flops_in_words(self) -> Iterator[str]:
        yield (
            f"FLOPs: {self.flops:.2e}; answers {self.ledger.cost.total:.2e}, references once {self.references:.2e}, "
            f"learned once {self.learned:.2e}"
        )
        for told, values in (("phase", vars(self.ledger.cost)), ("part", self._by_part())):
            yield f"  answers by {told}: {_shares(values)}"
        if self.whole:
            yield f"  answers by arm: {_shares(self.values()['flops']['by_arm'])}"

    def _hours_in_words(self) -> str:
        if self.pace is None or self.hours is None:
            return "not foreseen; see below"
        least = "" if self.whole else "at least "
        once = f"{self.references_hours:.2g} of them for references, once"
        return f"{least}{self.hours:.2g}, {once} ({self.pace.told}; without reading the weights)"


def _shares(values: Mapping[str, float]) -> str:
    total = sum(values.values()) or 1.0
    return ", ".join(f"{name} {value / total:.0%}" for name, value in values.items())


def _size(number: float) -> str:
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.1f} MiB"
