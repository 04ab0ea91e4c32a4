"""Ways to do one thing, in turns, and what each takes over another: processor time, so that other work on the machine
counts little.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def in_turns(ways: Mapping[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each way, turn by turn, and what it gave last.

    Every second turn goes the other way round. One turn before is not counted: what is built when it is first needed is
    built then.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for turn in range(-1, repeats):
        for name in ways if turn % 2 else reversed(ways):
            began = time.process_time()
            found[name] = ways[name]()
            took = time.process_time() - began
            if turn >= 0:
                seconds[name].append(took)
    return seconds, found


def over(seconds: Sequence[float], others: Sequence[float], digits: int = 2) -> dict[str, float]:
    """What was taken over what another took in the same turn: median, least and most."""
    ratios = [one / other for one, other in zip(seconds, others, strict=True)]
    told = {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
    return {name: round(value, digits) for name, value in told.items()}


def a_second(seconds: Mapping[str, Sequence[float]], count: int) -> dict[str, float]:
    """How many of so many each way does a second, in the median turn."""
    return {f"{name}_per_second": round(count / statistics.median(took), 2) for name, took in seconds.items()}
