"""What ``c3po study plan`` says, beside a run: FLOPs, seconds, memory and disk of scaled-down models.

    python studies/speed/plan.py --out studies/speed/results/plan.json

OLMoE's and DeepSeekMoE's layers, experts and top-k with random weights, 512 numbers wide. Plan and run take turns, each
in a process of its own on one thread. Seconds are the processor's, so that other work on the machine does not count:
of the run, those of its pieces. Memory is the largest that the process had for itself alone: pages of files, which the
system takes back when others need them, are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.identity import routing_versions

WIDTH = {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 8}
MODELS = {
    "olmoe": {"num_hidden_layers": 16, "num_experts": 64, "num_experts_per_tok": 8, "intermediate_size": 128},
    "deepseek": {
        "num_hidden_layers": 28,
        "n_routed_experts": 64,
        "num_experts_per_tok": 6,
        "n_shared_experts": 2,
        "moe_intermediate_size": 128,
        "intermediate_size": 1024,
    },
}
ARMS = {
    "base": {"optimizer": "none"},
    "kernel-regression": {"optimizer": "kernel-regression"},
    "ngd": {},
    "random-neighbours": {"retriever": "random"},
    "amortized": {"optimizer": "amortized-ngd"},
    "oracle": {"optimizer": "oracle"},
}


def write_study(place: Path, family: str, format: str) -> Path:
    """A random checkpoint with a tokenizer of English, and a configuration of questions of the demo."""
    from c3po_adaptive.models.tiny import tiny_moe
    from c3po_adaptive.references.embedding import default_embedder

    words = default_embedder().tokenizer
    model = tiny_moe(family, **WIDTH, **MODELS[family], vocab_size=len(words), initializer_range=0.02)
    model.save_pretrained(place / family)
    words.save_pretrained(place / family)
    data = {"name": "demo", "questions": "demo:validation", "limit": 24, "references": ["demo:references"]}
    study = {
        "model": str(place / family),
        "format": format,
        "scope": "last",
        "batch_size": 8,
        "arms": ARMS,
        "datasets": [data | {"references_limit": 48}],
    }
    (place / f"{family}.yaml").write_text(json.dumps(study))  # JSON is YAML
    return place / f"{family}.yaml"


def plan(path: Path) -> dict:
    """What the study is foreseen to take, by processor time."""
    time.perf_counter = time.process_time
    from c3po_adaptive.registry import default_registry
    from c3po_adaptive.study.kind import read_study

    kind, config = read_study(path)
    return dict(kind.plan(config, default_registry()).values)


def run(path: Path, out: Path) -> dict[str, float]:
    """The study, in this process."""
    from c3po_adaptive.models.loading import load_moe_model
    from c3po_adaptive.study.comparison.run import evaluate
    from c3po_adaptive.study.kind import read_study

    peak, time.perf_counter = watched(), time.process_time
    _, config = read_study(path)
    model, seconds = load_moe_model(config.model), []

    def timed(pieces, label, total=None):
        began = time.perf_counter()
        yield from pieces
        seconds.append(time.perf_counter() - began)

    evaluate(config, out, model=model, progress=timed)
    rows = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    return {
        "answers": float(sum(row["flops"]["total"] for row in rows)),
        "hours": seconds[0] / 3600,
        "memory": peak[0],
    }


def watched() -> list[float]:
    """The largest memory of this process so far, from now on."""
    process, peak = psutil.Process(), [0.0]

    def watch() -> None:
        while True:
            found = process.memory_info()
            peak[0] = max(peak[0], float(found.rss - found.shared))
            time.sleep(0.005)

    threading.Thread(target=watch, daemon=True).start()
    return peak


def in_process(*command: str, place: Path) -> dict:
    """What a process prints, as JSON."""
    environment = {**os.environ, "C3PO_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout)


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def beside(place: Path, family: str, format: str, number: int) -> dict:
    """One plan, and one run of the same."""
    path, out = write_study(place, family, format), place / "run"
    planned = in_process(sys.executable, __file__, "--plan", str(path), "--out", str(out), place=place)
    found = planned["forecast"]
    told = {
        "answers": found["flops"]["total"] - found["flops"]["references"] - found["flops"]["learned"],
        "hours": found["hours"],
        "memory": found["memory"]["total"],
        "disk": found["disk"]["run"] + found["disk"]["references"],
    }
    ran = in_process(sys.executable, __file__, "--run", str(path), "--out", str(out), place=place)
    ran["disk"] = size(out) + size(place / "cache" / "refsets")
    print(family, format, number, {key: round(told[key] / ran[key], 2) for key in ran}, flush=True)
    return {"model": family, "format": format, "planned": told, "run": ran}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--run", type=Path, help="run this configuration into the folder --out, and print what it took")
    parser.add_argument("--plan", type=Path, help="plan this configuration, and print what it takes")
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    if given.run is not None:
        print(json.dumps(run(given.run, given.out)))
        return
    if given.plan is not None:
        print(json.dumps(plan(given.plan)))
        return
    pairs = []
    for number in range(given.repeats):
        for family in MODELS:
            for format in ("letter", "cloze"):
                with tempfile.TemporaryDirectory() as folder:
                    pairs.append(beside(Path(folder), family, format, number))
                write_text(given.out, json.dumps({"versions": routing_versions(), "pairs": pairs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
