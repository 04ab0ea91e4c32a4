"""Recipes beside the shipped one, each trained shortly in bfloat16 on a part of the rows, and asked on validation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from c3po_bed import LEARNED
from torch import Tensor
from transformers import LlamaForCausalLM

from c3po_adaptive.models.embedded.assemble import assemble
from c3po_adaptive.models.routed import RoutedModel

from .apart import Recipe, Row, Upper, answer_loss, entries, products, train
from .measure import RULES, family_of, questions_of, right, scores
from .router import Routing, moments, routers
from .tensors import export, recipe_of

SHARE = 3  # of so many rows one is learned from
QUESTIONS = 10  # of each kind
FITTED = 1500  # rows that a router is fitted to


@dataclass(frozen=True)
class Variant:
    """A recipe to try.

    Attributes:
        recipe: what is other than shipped.
        by_kind: an expert a kind of task, not a family.
        routing: ways to route the same experts, by name.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    by_kind: bool = False
    routing: Mapping[str, Routing] = field(default_factory=lambda: {"": Routing()})


ROUTING = {
    "": Routing(),
    "top 1": Routing(top_k=1),
    "top 4": Routing(top_k=4),
    "softer": Routing(sharpness=6.0),
    "sharper": Routing(sharpness=24.0),
    "not renormalized": Routing(renormalized=False),
    "answers count once": Routing(answers=1.0),
}
VARIANTS: Mapping[str, Variant] = {
    "as shipped": Variant(routing=ROUTING),
    "twice the tokens": Variant({"epochs": 2}),
    "layers 8 to 19": Variant({"layers": tuple(range(8, 20))}),
    "layers 18 to 29": Variant({"layers": tuple(range(18, 30))}),
    "every second layer": Variant({"layers": tuple(range(6, 30, 2))}),
    "8 neurons": Variant({"width": 8}),
    "32 neurons": Variant({"width": 32}),
    "an expert a kind": Variant({"width": 8}, by_kind=True),
}


def sweep(
    dense: LlamaForCausalLM,
    tokenizer: Any,
    rows: Sequence[Row],
    kinds: Path,
    done: Collection[tuple[str, str]],
    scratch: Path,
) -> Iterator[dict[str, Any]]:
    """Figures of each variant that is not done yet, a record for each way of routing it.

    Args:
        dense: the donor.
        tokenizer: its.
        rows: all that there is to learn from.
        kinds: folder with the validation questions.
        done: those that are, each a variant and a way to route it.
        scratch: folder for the states of their trainings.
    """
    part = list(rows)[::SHARE]
    asked = questions_of(kinds, list(LEARNED), "validation", QUESTIONS)
    for name, variant in VARIANTS.items():
        left = {how: routing for how, routing in variant.routing.items() if (name, how) not in done}
        if not left:
            continue
        own = [replace(row, expert=_number(row.kind)) for row in part] if variant.by_kind else part
        experts = 1 + max(row.expert for row in own)
        recipe = replace(Recipe(experts=experts, epochs=1, half=True), **variant.recipe)
        with products(recipe):
            states = entries(dense, own, recipe.layers[0])
        upper = Upper(dense, recipe)
        loss = round(_learn(upper, dense, own, states, recipe, scratch / f"{name}.pt"), 3)
        told = {q.id: _number(q.task) if variant.by_kind else family_of(q) for q in asked}
        fitted = torch.randperm(len(own), generator=torch.Generator().manual_seed(0))[:FITTED].tolist()
        for how, routing in left.items():
            found = moments(upper, [own[i] for i in fitted], [states[i] for i in fitted], routing.answers)
            made = export(upper, routers(found, routing))
            model = RoutedModel(assemble(dense, made, recipe_of(recipe, routing)), tokenizer, name="bed")
            yield {"name": name, "routing": how, "rows": len(own), "loss": loss, **_leverage(model, asked, told)}


def _number(kind: str) -> int:
    """Of a kind's own expert; all else has the last."""
    return list(LEARNED).index(kind) if kind in LEARNED else len(LEARNED)


def _learn(
    upper: Upper, dense: LlamaForCausalLM, rows: Sequence[Row], states: Sequence[Tensor], recipe: Recipe, kept: Path
) -> float:
    """Train it; the mean loss of its last ten steps."""
    head = dense.lm_head.weight.data

    def loss(batch: Sequence[int]) -> Tensor:
        return answer_loss(upper, head, [rows[i] for i in batch], [states[i] for i in batch]).mean()

    return float(np.mean([record["loss"] for record in train(upper, loss, rows, recipe, kept)][-10:]))


@torch.no_grad()
def _leverage(model: RoutedModel, asked: Sequence[Any], told: Mapping[str, int]) -> dict[str, Any]:
    """Accuracy, %, by routing; the donor's is every recipe's."""
    found: dict[str, Any] = {"n": len(asked)}
    for name in ("routed", "permuted", "told"):
        found[name] = round(100 * float(right(asked, scores(model, asked, RULES[name], told)).mean()), 1)
    return found
