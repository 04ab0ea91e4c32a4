"""Ask: rates are chosen on validation questions, then the test questions are asked once of either model.

    python studies/pictures/run.py build/pictures

What is kept goes to ``studies/pictures/results``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from c3po_adaptive import load_run
from c3po_adaptive.cli import app
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.records.parquet import write_parquet
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"
RATES = (5, 20, 80)
LENGTHS = (0.1, 0.3)
SCOPES = ("answer", "all")
NEIGHBOURS = 60
ASKED = {"broken": 128, "sound": 64}
"""So many test questions of each model."""


def nearest(rate: float, length: float, scope: str) -> dict[str, Any]:
    """A step for each question, along what experts were worth to its nearest references."""
    return {
        "learn_from": "all",
        "scope": scope,
        "optimizer": {"name": "integrated-step", "lr": rate},
        "retriever": {"name": "faiss-knn", "k": NEIGHBOURS},
        "kernel": {"name": "gaussian", "length_scale": length},
        "selector": {"name": "fixed", "layers": "all", "experts": None},
    }


def constant(rate: float, scope: str) -> dict[str, Any]:
    """The same step for all."""
    return {
        "learn_from": "all",
        "scope": scope,
        "optimizer": {"name": "constant-integrated-step", "lr": rate},
        "selector": {"name": "fixed", "layers": "all", "experts": None},
    }


def asked(made: Path, model: str, part: str, arms: dict[str, Any], limit: int | None = None, **more: Any) -> Path:
    """Run a comparison; its folder."""
    config = {
        "model": str(made / model),
        "embedder": "model",
        "max_similarity": 1.0,
        "datasets": [
            {"name": "pictures", "questions": str(made / f"{part}.jsonl"), "split": part, "limit": limit,
             "references": [str(made / "references.jsonl")], "references_split": "references"},
        ],
        "arms": {"base": {"optimizer": "none", "selector": {"name": "fixed", "n": 0}}, **arms},
        **more,
    }  # fmt: skip
    path, out = made / f"{model}-{part}.yaml", made / "runs" / f"{model}-{part}"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    app(["study", "run", str(path), "--out", str(out)], standalone_mode=False)
    return out


def chosen(made: Path) -> dict[str, dict[str, Any]]:
    """Of the step for each question and of that for all, the settings that are best on validation questions, whose
    answers are kept.
    """
    tried: dict[str, list[dict[str, Any]]] = {
        "nearest": [{"rate": r, "length": x, "scope": s} for r in RATES for x in LENGTHS for s in SCOPES],
        "constant": [{"rate": r, "scope": s} for r in RATES for s in SCOPES],
    }
    arms = {
        f"{kind} {i}": (nearest if kind == "nearest" else constant)(**settings)
        for kind, several in tried.items()
        for i, settings in enumerate(several)
    }
    out = asked(made, "broken", "validation", arms, headline="nearest 0")
    write_parquet(read_records(out, AnswerRecord), RESULTS / "validation.parquet")
    right = {row["arm"]: row["accuracy"] for row in load_run(out).table}
    best = {kind: max(range(len(several)), key=lambda i: right[f"{kind} {i}"]) for kind, several in tried.items()}
    return {kind: tried[kind][i] for kind, i in best.items()}


def main(made: Path) -> None:
    RESULTS.mkdir(exist_ok=True)
    best = chosen(made)
    step = nearest(**best["nearest"])
    arms = {
        "nearest": step,
        "random neighbours": {
            **step,
            "retriever": {"name": "random", "k": NEIGHBOURS},
            "kernel": {"name": "gaussian", "length_scale": 1000},  # all weighed alike
            "control_of": ["nearest"],
        },
        "shuffled labels": {**step, "labels": "shuffled", "control_of": ["nearest"]},
        "constant": constant(**best["constant"]),
    }
    compare = [["nearest", other] for other in ("constant", "random neighbours", "shuffled labels", "base")]
    for model, limit in ASKED.items():
        out = asked(made, model, "test", arms, limit, headline="nearest", compare=compare)
        write_parquet(read_records(out, AnswerRecord), RESULTS / f"{model}.parquet")
    write_text(RESULTS / "chosen.json", json.dumps(best, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
