"""What a long text in front changes in the routing of the sound model: ``python -m long.routing FOLDER`` (in
``studies``) reads the questions that ``long.questions`` wrote there, and writes ``results/routing.json``, a row a
question, and ``results/changes.json``; without FOLDER the latter of the former.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from long.questions import TOKENS

from c3po_adaptive import RoutedModel, load_moe_model
from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks.sources import questions
from c3po_adaptive.types import Question

FOUND, CHANGES = (Path(__file__).parent / "results" / f"{name}.json" for name in ("routing", "changes"))
BATCH = 5

Row = Mapping[str, Any]


def routed(model: RoutedModel, asked: list[Question]) -> list[Row]:
    """Of each question: whether the model is right, and the experts and the entropy (nats, mean over layers) of its
    routers at the prompt's last token.
    """
    found = []
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        states = model.prefill([model.encode(question) for question in part], keep=False)
        for question, state, scores in zip(part, states, model.choice_scores(states), strict=True):
            found.append(
                {
                    "id": question.id,
                    "right": int(scores.argmax()) == question.answer,
                    "experts": [sorted(layer.nonzero().flatten().tolist()) for layer in state.own],
                    "entropy": round(float(torch.special.entr(state.router).sum(-1).mean()), 4),
                }
            )
        print(f"{start + len(part)} of {len(asked)}", file=sys.stderr, flush=True)
    return found


def changes(found: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Of each length, in percent: answers right; what that is less than alone; experts that are the same as alone, and
    those that a question alone shares with the next one of another kind; and the mean entropy.
    """
    alone, *longer = found.values()
    others = [next(b for b in (*alone[i:], *alone[:i]) if kind(b) != kind(a)) for i, a in enumerate(alone)]
    pairs = {name: list(zip(alone, rows, strict=True)) for name, rows in zip([*found][1:], longer, strict=True)}
    lost = {name: [b["right"] - a["right"] for a, b in both] for name, both in pairs.items()}
    same = {
        name: [shared(*pair) for pair in both]
        for name, both in {**pairs, "another kind": list(zip(alone, others, strict=True))}.items()
    }
    return {
        "right": {name: 100 * float(np.mean([row["right"] for row in rows])) for name, rows in found.items()},
        "lost": {name: estimate(each, flips=True) for name, each in lost.items()},
        "same experts": {name: estimate(each) for name, each in same.items()},
        "entropy": {name: float(np.mean([row["entropy"] for row in rows])) for name, rows in found.items()},
    }


def estimate(each: Iterable[float], *, flips: bool = False) -> dict[str, float]:
    """Their mean in percent, with its interval over questions."""
    values = np.array([*each], float)[:, None]
    over = stats.over_flips([values], seed=0) if flips else stats.over_values(values, seed=0)
    return {"difference": 100 * float(values.mean()), "ci_low": 100 * over.low, "ci_high": 100 * over.high}


def kind(row: Row) -> str:
    return row["id"].partition("/")[0]


def shared(a: Row, b: Row) -> float:
    """Share of the experts of ``a`` that ``b`` uses in the same layer."""
    layers = list(zip(a["experts"], b["experts"], strict=True))
    return sum(len({*x} & {*y}) for x, y in layers) / sum(len(x) for x, _ in layers)


def main(folders: Sequence[str]) -> None:
    for folder in map(Path, folders):
        model = load_moe_model("smollm2-moe")
        asked = {str(n): list(questions(str(folder / f"{n}.jsonl"), split="test")) for n in TOKENS}
        write_text(FOUND, json.dumps({n: routed(model, own) for n, own in asked.items()}) + "\n")
    write_text(CHANGES, json.dumps(changes(json.loads(FOUND.read_text())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
