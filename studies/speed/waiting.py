"""How much slower the command line is beside other work, by how its threads wait.

    python studies/speed/waiting.py --out studies/speed/results/waiting.json

Threads of a numerical library that have nothing to do spin (``OMP_WAIT_POLICY=active``, many libraries' default) or
sleep (``passive``, which ``c3po`` sets for itself). Spinning takes the cores of whoever else would compute. Each
repetition runs the same short study in all ways in turns: alone, beside one busy Python process, and beside a second
study.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from turns import over

POLICIES = ("active", "passive")
BESIDE = ("nothing", "a busy process", "a second study")
STUDY = Path(__file__).parents[1] / "demo" / "config.yaml"
COMMAND = [sys.executable, "-c", "from c3po_adaptive.cli import app; app()", "study", "run", str(STUDY)]
SHORT = ["--set", "datasets.0.split=validation", "--set", "datasets.0.limit=24", "--set", "headline=ngd",
         "--set", "arms={base: {optimizer: none}, ngd: {}}", "--set", "compare=[]"]  # fmt: skip


def start(policy: str, out: Path) -> subprocess.Popen:
    """The short study, into a new folder."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "OMP_WAIT_POLICY": policy}
    return subprocess.Popen([*COMMAND, "--out", str(out), *SHORT], env=environment, **quiet)


@contextmanager
def beside(what: str, policy: str, folder: Path):
    """Other work, as long as the block lasts."""
    if what == "nothing":
        yield
        return
    busy = [sys.executable, "-c", "while True: pass"]
    other = subprocess.Popen(busy) if what == "a busy process" else start(policy, folder / "other")
    try:
        yield
    finally:
        other.kill()
        other.wait()


def timed(policy: str, what: str) -> float:
    """Seconds of the study."""
    with tempfile.TemporaryDirectory() as place, beside(what, policy, Path(place)):
        began = time.perf_counter()
        if start(policy, Path(place) / "own").wait():
            raise SystemExit("the study failed; run it by hand to see why: " + " ".join(COMMAND))
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    timed("passive", "nothing")  # builds the model and the reference set
    seconds = {(policy, what): [] for what in BESIDE for policy in POLICIES}
    for _ in range(given.repeats):
        for (policy, what), found in seconds.items():
            found.append(timed(policy, what))
            print(f"{policy} beside {what}: {found[-1]:.1f} s", flush=True)
    alone = seconds["active", "nothing"]
    rows = []
    for (policy, what), found in seconds.items():
        told = {"policy": policy, "beside": what, "seconds": round(statistics.median(found), 1)}
        rows.append(told | over(found, alone))
    given.out.write_text(json.dumps({"cores": os.cpu_count(), "repeats": given.repeats, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
