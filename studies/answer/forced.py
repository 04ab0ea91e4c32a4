"""Does routing go wrong by itself? Every expert is forced on validation questions of the sound model, one after the
other, at every token and in every layer: ``C3PO_BED=FOLDER python -m answer.forced`` (in ``studies``).

It writes ``results/forced.json``: how often the model is right as it routes, with the expert that was trained on the
question's family (told), and with the best of all in hindsight, and how far that can be seen without the label.
"""

import json
from pathlib import Path

import numpy as np
import torch
from answer.gate import ABOVE, data
from c3po_bed import EXPERTS, LEARNED
from sklearn.metrics import roc_auc_score

from c3po_adaptive import RoutedModel, load_moe_model, rule_named
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks.question_files import first_of
from c3po_adaptive.tasks.sources import questions
from c3po_adaptive.types import Question

FOUND = Path(__file__).parent / "results" / "forced.json"
EACH = {"learned": 12, "reworded": 10, "others": 3}
"""Validation questions of each kind."""


def asked(case: str) -> list[Question]:
    """Validation questions of a case."""
    (source,) = (one["questions"] for one in data(json.loads(ABOVE.read_text())) if one["name"] == case)
    found = questions(source, split="validation")
    return first_of(found, EACH[case] * len({question.subject for question in found}))


def looked_at(model: RoutedModel, part: list[Question]) -> list[dict[str, object]]:
    """Of each question: whether the model is right as it routes and with each expert, and how sure its routers are."""
    prompts = [model.encode(question) for question in part]
    states = model.prefill(prompts)
    rules = [rule_named(f"force:{expert};top-k:1") for expert in range(model.n_experts)]
    forced = [[answer.scores() for answer in model.ruled(prompts, rule)] for rule in rules]
    return [
        {
            "right": int(own.argmax()) == question.answer,
            "experts": [int(scores[i].argmax()) == question.answer for scores in forced],
            "told": EXPERTS.index(LEARNED[question.subject]) if question.subject in LEARNED else None,
            "doubt": float(torch.special.entr(states[i].router).sum(-1).mean()),
            "margin": float(own.softmax(0).topk(2).values.diff().abs()),
        }
        for i, (question, own) in enumerate(zip(part, model.choice_scores(states), strict=True))
    ]


def told(rows: list[dict]) -> dict[str, float]:
    """Shares in percent, and areas under the curve."""
    right, experts = (np.array([row[name] for row in rows]) for name in ("right", "experts"))
    shares = {"as it routes": right, "a random expert": experts, "best of all in hindsight": experts.any(1)}
    areas = {}
    if all(row["told"] is not None for row in rows):
        own = np.array([row["experts"][row["told"]] for row in rows])
        shares |= {"its family's expert": own, "wrong where that is right": own & ~right}
        shares |= {"right where that is wrong": right & ~own}
        areas = {f"missed, by {by}": seen(rows, own & ~right, by) for by in ("doubt", "margin")}
    percent = {name: round(100 * float(share.mean()), 2) for name, share in shares.items()}
    return {"n": len(rows), **percent, **areas}


def seen(rows: list[dict], missed: np.ndarray, by: str) -> float:
    """Area under the curve of the routers' doubt, or of how near the best choices are, for experts that are missed."""
    values = np.array([row[by] for row in rows])
    return round(float(roc_auc_score(missed, values if by == "doubt" else -values)), 4)


def main() -> None:
    model = load_moe_model("smollm2-moe")
    found = {}
    for case in EACH:
        rows = []
        all_of = asked(case)
        for i in range(0, len(all_of), 32):
            rows += looked_at(model, all_of[i : i + 32])
        found[case] = told(rows)
        print(case, found[case], flush=True)
    write_text(FOUND, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
