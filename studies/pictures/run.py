"""Ask: rates are chosen on validation questions, then the test questions are asked once of either model.

    python studies/pictures/run.py build/pictures

What is kept goes to ``studies/pictures/results``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from c3po_adaptive import load_run
from c3po_adaptive.cli import app

RESULTS = Path(__file__).parent / "results"
RATES = (5, 20, 80)
LENGTHS = (0.1, 0.3)
CONSTANT = (5, 20, 80)
NEIGHBOURS = 60


def nearest(rate: float, length: float) -> dict[str, Any]:
    """A step for each question, along what experts were worth to its nearest references."""
    return {
        "learn_from": "all",
        "optimizer": {"name": "integrated-step", "lr": rate},
        "retriever": {"name": "faiss-knn", "k": NEIGHBOURS},
        "kernel": {"name": "gaussian", "length_scale": length},
        "selector": {"name": "fixed", "layers": "all", "experts": None},
    }


def constant(rate: float) -> dict[str, Any]:
    """The same step for all."""
    return {
        "learn_from": "all",
        "optimizer": {"name": "constant-integrated-step", "lr": rate},
        "selector": {"name": "fixed", "layers": "all", "experts": None},
    }


def asked(made: Path, model: str, part: str, arms: dict[str, Any], **more: Any) -> Path:
    """Run a comparison; its folder."""
    config = {
        "model": str(made / model),
        "embedder": "model",
        "max_similarity": 1.0,
        "datasets": [
            {"name": "pictures", "questions": str(made / f"{part}.jsonl"), "split": part,
             "references": [str(made / "references.jsonl")], "references_split": "references"},
        ],
        "arms": {"base": {"optimizer": "none", "selector": {"name": "fixed", "n": 0}}, **arms},
        **more,
    }  # fmt: skip
    path, out = made / f"{model}-{part}.yaml", made / "runs" / f"{model}-{part}"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    app(["study", "run", str(path), "--out", str(out)], standalone_mode=False)
    return out


def chosen(made: Path) -> dict[str, float]:
    """Rate and length of the step for each question, and the rate of that for all, best on validation questions."""
    arms = {f"nearest {rate} {length}": nearest(rate, length) for rate in RATES for length in LENGTHS}
    arms |= {f"constant {rate}": constant(rate) for rate in CONSTANT}
    table = load_run(asked(made, "broken", "validation", arms, headline=f"nearest {RATES[0]} {LENGTHS[0]}")).table
    best = {
        kind: max((row for row in table if row["arm"].startswith(kind)), key=lambda row: row["accuracy"])["arm"]
        for kind in ("nearest", "constant")
    }
    rate, length = best["nearest"].split()[1:]
    return {"lr": float(rate), "length_scale": float(length), "constant_lr": float(best["constant"].split()[1])}


def main(made: Path) -> None:
    best = chosen(made)
    step = nearest(best["lr"], best["length_scale"])
    arms = {
        "nearest": step,
        "random neighbours": {**step, "retriever": {"name": "random", "k": NEIGHBOURS}, "control_of": ["nearest"]},
        "shuffled labels": {**step, "labels": "shuffled", "control_of": ["nearest"]},
        "constant": constant(best["constant_lr"]),
    }
    compare = [["nearest", other] for other in ("constant", "random neighbours", "shuffled labels", "base")]
    for model in ("broken", "sound"):
        out = asked(made, model, "test", arms, headline="nearest", compare=compare)
        kept = RESULTS / model
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(out / "summary.json", kept)
        rows = [
            {key: record.get(key) for key in ("id", "arm", "answer", "choice", "subject")}
            for record in load_run(out).records
        ]
        (kept / "answers.json").write_text(json.dumps(rows) + "\n")
    (RESULTS / "chosen.json").write_text(json.dumps(best) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
