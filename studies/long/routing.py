"""What a long text in front changes in the routing of the sound model: ``python -m long.routing FOLDER`` (in
``studies``) reads the questions that ``long.questions`` wrote there, and writes ``results/routing.json``.
"""

import json
import sys
from pathlib import Path

import torch
from long.questions import TOKENS

from c3po_adaptive import RoutedModel, load_moe_model
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks.sources import questions
from c3po_adaptive.types import Question

FOUND = Path(__file__).parent / "results" / "routing.json"
BATCH = 5


def routed(model: RoutedModel, asked: list[Question]) -> list[dict[str, object]]:
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


def main(folder: Path) -> None:
    model = load_moe_model("smollm2-moe")
    found = {
        str(tokens): routed(model, list(questions(str(folder / f"{tokens}.jsonl"), split="test"))) for tokens in TOKENS
    }
    write_text(FOUND, json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
