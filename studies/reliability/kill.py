"""Runs that are ended from outside, and two at once in one folder: can every one be gone on with?

    python studies/reliability/kill.py --out studies/reliability/results/kill.json

A small study of a tiny model is run once to its end. Then, again and again in a new folder: killed (SIGKILL) or asked
to end (SIGTERM) at a random moment, or begun by two processes at once. Each is then run to its end, and held against
the first: the same rows, each once, with the same choices, and scores that differ by rounding alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from c3po_adaptive.storage.files import write_text
from c3po_adaptive.testing import write_tiny_checkpoint

COMMAND = [sys.executable, "-c", "from c3po_adaptive.cli import app; app()", "study", "run", "study.yaml", "--out"]
QUESTIONS = 60
ARMS = {
    "base": {"optimizer": "none"},
    "ngd": {"optimizer": {"name": "ngd", "steps": 3}, "selector": {"name": "fixed", "n": 2, "experts": 5}},
    "kernel": {"optimizer": "kernel-regression", "selector": {"name": "fixed", "n": 2, "experts": 5}},
}


def write_study(place: Path) -> None:
    """A model, questions and a configuration that need nothing else."""
    write_tiny_checkpoint(place / "model", "olmoe")
    rows = [
        {"id": f"q{i}", "task": "sum", "question": f"{i} and {i % 7}?", "choices": ["yes", "no"], "answer": i % 2}
        for i in range(2 * QUESTIONS)
    ]
    for name, part in (("test", rows[:QUESTIONS]), ("references", rows[QUESTIONS:])):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    data = {"name": "sums", "questions": "test.jsonl", "split": None, "references": ["references.jsonl"]}
    study = {"model": "model", "datasets": [data], "arms": ARMS, "batch_size": 2}
    (place / "study.yaml").write_text(json.dumps(study))  # JSON is YAML


def start(place: Path, out: str) -> subprocess.Popen:
    """The study, as a process."""
    environment = {**os.environ, "C3PO_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, out], cwd=place, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def end(process: subprocess.Popen) -> tuple[int, str]:
    """Its exit status, and the last line that it wrote to standard error."""
    said = process.communicate()[1].strip().splitlines()
    return process.returncode, said[-1] if said else ""


def rows_of(folder: Path) -> dict[tuple[str, str], list[dict]]:
    """Rows by arm and question."""
    rows: dict[tuple[str, str], list[dict]] = {}
    for line in (folder / "records.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.setdefault((row["arm"], row["id"]), []).append(row)
    return rows


def gone_on_with(place: Path, out: str, whole: dict) -> dict:
    """Run to the end, and what differs from an undisturbed run."""
    status, said = end(start(place, out))
    if status:
        return {"resumed": status, "said": said}
    rows = rows_of(place / out)
    pairs = [(rows[key][0], whole[key][0]) for key in whole if key in rows]
    return {
        "resumed": status,
        "rows": len(rows),
        "repeated": sum(len(found) - 1 for found in rows.values()),
        "other_choices": sum(a["choice"] != b["choice"] for a, b in pairs),
        "score_difference": max(abs(x - y) for a, b in pairs for x, y in zip(a["scores"], b["scores"], strict=True)),
    }


def ended_by(number: int, after: float, place: Path, out: str) -> dict:
    """Begin, and send a signal after so many seconds."""
    process = start(place, out)
    time.sleep(after)
    process.send_signal(number)
    status, said = end(process)
    done = place / out / "records.jsonl"
    lines = done.read_bytes().count(b"\n") if done.exists() else 0
    found = {"after_seconds": round(after, 2), "status": status, "rows_before": lines}
    return found if number == signal.SIGKILL else found | {"said": said}


def two_at_once(place: Path, out: str) -> dict:
    """Begin twice, and wait for both."""
    ends = [end(process) for process in (start(place, out), start(place, out))]
    return {"statuses": sorted(status for status, _ in ends), "said": [said for status, said in ends if status]}


def main() -> None:
    """Every case, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=20, help="of SIGKILL and of two at once; a quarter of SIGTERM")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_study(place)
        begun = time.monotonic()
        status, said = end(start(place, "whole"))
        if status:
            raise SystemExit(f"Expected the whole study to end with 0, got {status}: {said}; mend that first.")
        seconds, whole = time.monotonic() - begun, rows_of(place / "whole")
        kinds = ["SIGKILL"] * args.repeats + ["SIGTERM"] * (args.repeats // 4) + ["two at once"] * args.repeats
        results = []
        for i, kind in enumerate(kinds):
            out = f"run{i}"
            found = two_at_once(place, out) if kind == "two at once" else ended_by(
                getattr(signal, kind), draw.uniform(0.1, 1.0) * seconds, place, out
            )  # fmt: skip
            results.append({"case": kind, **found, **gone_on_with(place, out, whole)})
            shutil.rmtree(place / out)
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    bad = [r for r in results if r["resumed"] or r["repeated"] or r["other_choices"] or r["rows"] != len(whole)]
    found = {"seconds_undisturbed": round(seconds, 1), "rows": len(whole), "cases": len(results), "failed": len(bad)}
    write_text(args.out, json.dumps(found | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
