"""Held-back references' loss by learning rate, for each arm of tuned.yaml that is trained; only references are asked.

C3PO_DATA=FOLDER python studies/leaderboard/learning_rates.py
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from time import process_time
from typing import Any

from c3po_adaptive.answerers.trained import Tuned
from c3po_adaptive.progress import bar
from c3po_adaptive.registry import new_registry
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.identity import routing_versions
from c3po_adaptive.study.comparison.comparison_config import ComparisonConfig
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker
from c3po_adaptive.study.executor import Piece
from c3po_adaptive.study.overrides import with_settings
from c3po_adaptive.study.study_config import read_yaml

HERE = Path(__file__).parent
OUT = HERE / "results" / "learning_rates.json"
DATASETS = ("arc_easy", "commonsense_qa")
RATES = {
    "prompt-tuning": (3e-3, 1e-2, 3e-2),
    "prefix-tuning": (1e-3, 3e-3, 1e-2, 3e-2),
    "lora": (3e-4, 1e-3, 3e-3),
    "router-tuning": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "router-tuning, all layers": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
}
"""Three, and more where the best was at their end."""


def main() -> None:
    """Trains each, with each rate, on the references of each data set; what has results is not trained again."""
    known = {_key(**row): row for row in json.loads(OUT.read_text())["rows"]} if OUT.is_file() else {}
    found = [
        known.get((arm, dataset, lr)) or {"arm": arm, "dataset": dataset, "lr": lr, **_tried(arm, dataset, lr)}
        for dataset in DATASETS
        for arm, rates in bar(list(RATES.items()), f"arms trained on {dataset}")
        for lr in rates
    ]
    best = {arm: min(rates, key=lambda lr: _mean(found, arm, lr)) for arm, rates in RATES.items()}
    for arm, rates in RATES.items():
        print(arm, *(f"{lr:g}: {_mean(found, arm, lr):.4f}" for lr in rates), f"best {best[arm]:g}", sep="  ")
    text = json.dumps({"best": best, "rows": found, "versions": routing_versions()}, indent=1, ensure_ascii=False)
    write_text(OUT, text + "\n")


def _key(arm: str, dataset: str, lr: float, **_: Any) -> tuple[str, str, float]:
    return arm, dataset, lr


def _tried(arm: str, dataset: str, lr: float) -> dict[str, Any]:
    config = with_settings(read_yaml(HERE / "tuned.yaml"), [f"@{HERE / 'same.yaml'}"], ComparisonConfig)
    config["arms"] = {arm: config["arms"][arm] | {"answerer": config["arms"][arm]["answerer"] | {"lr": lr}}}
    config["compare"] = []
    config["datasets"] = [entry for entry in config["datasets"] if entry["name"] == dataset]
    worker = ComparisonWorker.here(ComparisonConfig(**config), new_registry())
    bench = worker.bench(Piece(dataset, arm, 0))
    _ = bench.references  # their own pathways are not part of the training
    began = process_time()
    learned = worker.strategy(arm).prepare(bench)
    if not isinstance(learned, Tuned):
        raise SystemExit(f"Expected {arm} to be tuned, got {type(learned).__name__}; leave it out.")
    return {"losses": learned.losses, "parameters": learned.parameters, "cpu_seconds": process_time() - began}


def _mean(found: list[dict[str, Any]], arm: str, lr: float) -> float:
    """Over the data sets, of the epoch that would be kept: the model as it was is one."""
    return fmean(min(row["losses"]) for row in found if (row["arm"], row["lr"]) == (arm, lr))


if __name__ == "__main__":
    main()
