"""Is there something to win on a case? Validation questions of its families, from ``studies/``:
``python -m merged.gate MODELS/hidden_avg-8-0 --kinds FOLDER``; of a real merge ``--dense MODELS/dense``, too.

Asked are the case as it is, with all experts alike, and with the expert of a question's own family alone at every token
and layer, told; of a real merge that is the dense model that it was made of, and the donor is asked, too. A pruned
model is refused, as its layers have not the same experts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import c3po_bed
import numpy as np
import torch
import typer
from embedded_model.measure import Told, questions_of, right
from scipy.stats import bootstrap
from torch import Tensor

from c3po_adaptive import Change, LayerRouting, RoutedModel, load_dense_model, load_moe_model
from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.errors import DataError
from c3po_adaptive.progress import bar
from c3po_adaptive.routing.flops import measure
from c3po_adaptive.routing.whole_prompts import WholePrompts
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.types import Question

from .finetunes import DONOR, FAMILIES, folder_of

app = typer.Typer(no_args_is_help=True)
BATCH = 16
WAYS = (DONOR, "all alike", "as merged", "told")
MARGIN = 5.0  # points that a question's own expert, told, has to be above the merge


def alike(routing: LayerRouting) -> Change:
    """All experts, with equal weights."""
    every = torch.arange(routing.logits.shape[-1]).expand_as(routing.logits)
    return routing.change(every, torch.zeros_like(routing.logits))


def family_of(question: Question) -> str:
    """Whose expert learned the question's kind."""
    return c3po_bed.LEARNED[question.task]


@torch.no_grad()
def scored(
    model: RoutedModel, donor: Any | None, families: Sequence[str], questions: Sequence[Question]
) -> dict[str, list[Tensor]]:
    """Of each question's choices ``[C]``, by who answers; ``families`` in the order of their experts."""
    whole = None if donor is None else WholePrompts(donor, measure(donor, ()))
    found: dict[str, list[Tensor]] = {name: [] for name in WAYS if whole or name != DONOR}
    for first in bar(range(0, len(questions), BATCH), "questions"):
        part = questions[first : first + BATCH]
        own = torch.tensor([families.index(family_of(question)) for question in part])
        prompts = [model.encode(question) for question in part]
        if whole is not None:
            found[DONOR] += list(whole.scores(prompts))
        for name, rule in {"all alike": alike, "as merged": None, "told": Told(own, model.n_experts)}.items():
            found[name] += [answer.scores() for answer in model.ruled(prompts, rule)]
    return found


def figures(questions: Sequence[Question], found: Mapping[str, Sequence[Tensor]]) -> dict[str, Any]:
    """Per cent right, of each family's questions too, and how far the own expert, told, is above the merge."""
    is_right = {name: 100 * right(questions, scores) for name, scores in found.items()}
    family = np.array([family_of(question) for question in questions])
    gap = is_right["told"] - is_right["as merged"]
    low, high = bootstrap((gap,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return {
        "n": len(questions),
        "right": {name: round(float(each.mean()), 1) for name, each in is_right.items()},
        "told - as merged": [round(float(x), 1) for x in (gap.mean(), low, high)],
        "passes": bool(gap.mean() >= MARGIN),
        "families": {
            name: {by: round(float(each[family == name].mean()), 1) for by, each in is_right.items()}
            for name in c3po_bed.FAMILIES
            if name in family
        },
    }


@app.command()
@clear_errors()
def gate(
    model: Annotated[Path, typer.Argument(help="A case's folder.")],
    kinds: Annotated[Path, typer.Option(help="Folder with KIND.validation.jsonl of every learned kind.")],
    dense: Annotated[Path | None, typer.Option(help="Of a real merge, the folder with the donor.")] = None,
    each: Annotated[int, typer.Option(help="Questions a kind.")] = 12,
    out: Annotated[Path | None, typer.Option(help="A JSON file; default: the terminal alone.")] = None,
) -> None:
    """Ask validation questions of a case's families."""
    families = FAMILIES if dense else tuple(c3po_bed.FAMILIES)
    learned = [kind for name in families for kind in c3po_bed.FAMILIES[name].learned]
    questions = questions_of(kinds, learned, "validation", each)
    moe = load_moe_model(str(model), dtype="float32")
    if moe.n_experts < len(families):
        raise DataError(
            f"Expected a case with an expert of each of {len(families)} families, got {moe.n_experts} experts; a real "
            "merge takes --dense, and a pruned model has no gate of this kind."
        )
    donor = None if dense is None else load_dense_model(str(folder_of(DONOR, dense)))[0]
    found = scored(moe, donor, families, questions)
    text = json.dumps({"model": model.name} | figures(questions, found), indent=1)
    typer.echo(text)
    if out is not None:
        write_text(out, text + "\n")


if __name__ == "__main__":
    app()
