"""How far a study scales over Ray's workers: measured with one and two, and simulated with many.

    python studies/scaling/scaling.py --out studies/scaling/results/summary.json

A small study of a tiny model (one thread each) is run by one process and by Ray with one and with two workers, in
turns. What the driver takes for a piece is measured by an executor whose workers answer at once: unpickling and writing
are left, and Ray's own sending and fetching are not in it. The simulation takes both.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from c3po_ray import RayExecutor

from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import Records
from c3po_adaptive.registry import new_registry
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker
from c3po_adaptive.study.executor import HERE, Done, Piece
from c3po_adaptive.study.worker import run_pieces
from c3po_adaptive.testing import write_tiny_checkpoint

QUESTIONS, BATCH = 80, 4
PIECES = 1000  # of the simulation
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
FAILING = 0.01  # of pieces whose worker dies half way, on average
RESTART = 30.0  # seconds until it has loaded the model again
AHEAD = 2  # pieces that a worker has, as in the engine


def simulated(
    workers: int,
    piece: float,
    driver: float,
    *,
    failing: float = 0.0,
    restart: float = RESTART,
    ahead: int = AHEAD,
    pieces: int = PIECES,
    seed: int = 0,
) -> float:
    """Seconds until all pieces are written: discrete events of workers that compute and one driver that writes.

    Args:
        workers: how many.
        piece: seconds that one takes, on average (exponential around half of it).
        driver: seconds that the driver takes for one, to fetch, write and send another.
        failing: share of pieces whose worker dies while it computes; it begins again after ``restart`` seconds.
        restart: see there.
        ahead: pieces that a worker has: one that it computes, and others that wait for it.
        pieces: how many there are.
        seed: of draws.
    """
    drawn = random.Random(seed)
    left, written, free = pieces, 0, 0.0  # when the driver is free again
    ready = [0.0] * workers  # when each worker is done with what it has
    events: list[tuple[float, int]] = []  # when a piece is done, and by whom

    def send(worker: int, now: float) -> None:
        nonlocal left
        if left:
            left -= 1
            begin, lasts = max(now, ready[worker]), piece * (0.5 + drawn.expovariate(2))
            while drawn.random() < failing:
                begin += drawn.random() * lasts + restart
            ready[worker] = begin + lasts
            heapq.heappush(events, (ready[worker], worker))

    for _ in range(ahead):
        for worker in range(workers):
            send(worker, 0.0)
    while written < pieces:
        done, worker = heapq.heappop(events)
        free = max(free, done) + driver
        written += 1
        send(worker, free)
    return free


def study(place: Path) -> dict:
    """A configuration that needs nothing else."""
    write_tiny_checkpoint(place / "model", "olmoe", num_hidden_layers=8, num_experts=32, hidden_size=64)
    rows = [
        {"id": f"q{i}", "task": "sum", "question": f"{i} and {i % 7}?", "choices": ["yes", "no"], "answer": i % 2}
        for i in range(QUESTIONS + 40)
    ]
    for name, part in (("test", rows[:QUESTIONS]), ("references", rows[QUESTIONS:])):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    data = {"name": "sums", "questions": str(place / "test.jsonl"), "split": None}
    fixed = {"name": "fixed", "n": 4, "experts": 20}
    return {
        "model": str(place / "model"),
        "datasets": [data | {"references": [str(place / "references.jsonl")]}],
        "arms": {
            "base": {"optimizer": "none"},
            **{f"ngd-{i}": {"optimizer": {"name": "ngd", "steps": 10}, "selector": fixed, "seed": i} for i in range(2)},
        },
        "batch_size": BATCH,
    }


class AtOnce:
    """Stands in the place of workers: pieces come back with rows that are known, through pickle as Ray sends them."""

    def __init__(self, known: dict[Piece, Done]) -> None:
        self.known = known

    def map(self, compute: object, pieces: Iterable[Piece]) -> Iterator[Done]:
        import pickle

        for piece in pieces:
            yield pickle.loads(pickle.dumps(self.known[piece]))


def timed(worker: ComparisonWorker, pieces: list[Piece], executor: object, out: Path) -> tuple[dict, dict[Piece, Done]]:
    """Pieces a second and the ledger's seconds for one, and what was computed.

    From the first piece to the last, workers that still load the model are counted in; in the second half none is.
    """
    seen: list[float] = []
    found: dict[Piece, Done] = {}

    def noted(items, label, total=None):
        for done in items:
            found[done.piece] = done
            yield done
            seen.append(time.perf_counter())

    run_pieces(worker, Records(out, AnswerRecord), iter(pieces), executor, noted)
    half = len(seen) // 2
    return {
        "whole": (len(seen) - 1) / (seen[-1] - seen[0]),
        "second_half": (len(seen) - 1 - half) / (seen[-1] - seen[half]),
        "ledger_seconds": statistics.fmean(sum(row.seconds for row in done.rows) for done in found.values()),
    }, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--address", help="of a cluster with two workers; else one is started here")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    turns: dict[str, list[dict]] = {"one process": [], "1 worker": [], "2 workers": []}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        config = STUDY.parse(study(place))
        worker = ComparisonWorker.here(config, new_registry())
        pieces = [Piece("sums", arm, batch) for arm in config.arms for batch in range(QUESTIONS // BATCH)]
        ways = {"one process": HERE, **{f"{n} worker{'s' * (n > 1)}": RayExecutor(given.address, n) for n in (1, 2)}}
        for number in range(given.repeats):
            for name, executor in ways.items():
                (out := place / f"{name} {number}").mkdir()
                told, found = timed(worker, pieces, executor, out)
                turns[name].append(told)
                print(name, {key: round(value, 3) for key, value in told.items()}, flush=True)
        drivers = []
        for number in range(5):
            (out := place / f"driver {number}").mkdir()
            drivers.append(1 / timed(worker, pieces, AtOnce(found), out)[0]["whole"])
    driver = statistics.median(drivers)
    piece = 1 / statistics.median(turn["second_half"] for turn in turns["one process"])
    write_text(given.out, json.dumps(summary(turns, piece, driver, given.repeats), indent=1) + "\n")


def summary(turns: dict[str, list[dict]], piece: float, driver: float, repeats: int) -> dict:
    """What was measured, and what the simulation makes of it: of these pieces, and of ones that take five seconds."""
    curves = []
    for seconds in (piece, 5.0):
        for failing in (0.0, FAILING):
            one = simulated(1, seconds, driver)
            curves += [
                {
                    "piece": round(seconds, 4),
                    "failing": failing,
                    "workers": n,
                    "speedup": round(one / simulated(n, seconds, driver, failing=failing), 2),
                }
                for n in WORKERS
            ]
    return {
        "repeats": repeats,
        "measured": {
            name: [{key: round(value, 4) for key, value in turn.items()} for turn in each]
            for name, each in turns.items()
        },
        "piece_seconds": round(piece, 4),
        "driver_seconds": round(driver, 6),
        "full_at": {str(round(s, 4)): round(s / driver) for s in (piece, 5.0)},
        "simulated": curves,
    }


if __name__ == "__main__":
    main()
