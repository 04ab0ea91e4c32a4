"""The figures of the model card: what routing is worth on the kinds that experts learned, and what other text lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from c3po_audit.interventions import cycles
from c3po_bed import EXPERTS, FAMILIES, GENERAL, fresh
from scipy.stats import bootstrap
from torch import Tensor
from transformers import PreTrainedModel

from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.progress import bar
from c3po_adaptive.routing.router_rules import LayerRouting, RoutingRule
from c3po_adaptive.routing.styles import Change
from c3po_adaptive.tasks.question_files import load_questions
from c3po_adaptive.types import Question

from . import corpus

BATCH = 32
TEXT_ROWS = 256
ABOVE = 10.0  # points above chance that count as above it


def dense(routing: LayerRouting) -> Change:
    """No expert: the donor."""
    return Change(None, routing.index, torch.zeros_like(routing.weights))


@dataclass(frozen=True, eq=False)
class Permuted:
    """Each layer's experts exchanged at random, ``order [L, E]``; none stays in its place."""

    order: Tensor

    def __call__(self, routing: LayerRouting) -> Change:
        return Change(None, self.order[routing.position][routing.index], routing.weights)


@dataclass(frozen=True, eq=False)
class Told:
    """Every token of a question to one expert, ``[B]`` of the questions, among so many."""

    expert: Tensor
    experts: int

    def __call__(self, routing: LayerRouting) -> Change:
        own = self.expert[routing.sample, None]
        return Change(
            None, torch.cat([own, (own + 1) % self.experts], 1), torch.tensor([[1.0, 0.0]]).repeat(len(own), 1)
        )


Rule = Callable[[RoutedModel, Sequence[Question], Mapping[str, int]], RoutingRule]
"""Made for a batch of a model's questions, of which it is told each one's own expert by id."""
RULES: Mapping[str, Rule | None] = {
    "routed": None,
    "dense": lambda model, part, own: dense,
    "permuted": lambda model, part, own: Permuted(cycles(len(model.sites), model.n_experts, model.n_experts, seed=0)),
    "told": lambda model, part, own: Told(torch.tensor([own[q.id] for q in part]), model.n_experts),
}
"""Ways to route; None: the model's own."""


def questions_of(folder: Path, kinds: Sequence[str], split: str, limit: int) -> list[Question]:
    """The first of each kind, by a hash of their ids, without texts that an expert learned from."""
    files = {kind: load_questions(folder / f"{kind}.{split}.jsonl", limit=limit) for kind in kinds}
    return [question for kind, questions in files.items() for question in fresh(kind, questions)]


def scores(
    model: RoutedModel, questions: Sequence[Question], rule: Rule | None, own: Mapping[str, int]
) -> list[Tensor]:
    """Of each question's choices ``[C]``, along a rule or the model's own routing."""
    found: list[Tensor] = []
    for first in bar(range(0, len(questions), BATCH), "questions"):
        part = list(questions[first : first + BATCH])
        routing = None if rule is None else rule(model, part, own)
        given = model.score_choices(part, routing=routing)
        found += given if isinstance(given, list) else [given]
    return found


def right(questions: Sequence[Question], found: Sequence[Tensor]) -> np.ndarray:
    """``[N]`` 1 where the best choice is right."""
    return np.array([float(int(s.argmax()) == q.answer) for q, s in zip(questions, found, strict=True)])


def nll(questions: Sequence[Question], found: Sequence[Tensor]) -> np.ndarray:
    """``[N]`` of the right choice, among the choices."""
    return np.array([-float(s.log_softmax(0)[q.answer or 0]) for q, s in zip(questions, found, strict=True)])


def family_of(question: Question) -> int:
    """The number of its family's expert; questions of no family have that of other text."""
    names = list(FAMILIES)
    return next(
        (i for i, name in enumerate(names) if question.task in FAMILIES[name].learned + FAMILIES[name].siblings),
        EXPERTS.index(GENERAL),
    )


def leverage(model: RoutedModel, questions: Sequence[Question]) -> dict[str, Any]:
    """Accuracy, points, and loss, nats, by routing; differences to the model's own with 95 % intervals over
    questions within kinds, as means over kinds."""
    experts = {q.id: family_of(q) for q in questions}
    found = {name: scores(model, questions, rule, experts) for name, rule in RULES.items()}
    kinds = np.array([q.task for q in questions])
    own = right(questions, found["routed"])
    result: dict[str, Any] = {"n": len(questions), "kinds": len(set(kinds))}
    for name, given in found.items():
        is_right, losses = right(questions, given), nll(questions, given)
        difference = 100 * (is_right - own)
        result[name] = {
            "accuracy": 100 * _mean_over(kinds, is_right),
            "nll": _mean_over(kinds, losses),
            "difference": _mean_over(kinds, difference),
            "ci": _interval(kinds, difference),
            "by_kind": {kind: round(100 * float(is_right[kinds == kind].mean()), 1) for kind in sorted(set(kinds))},
        }
    return result


def _mean_over(kinds: np.ndarray, values: np.ndarray) -> float:
    return float(np.mean([values[kinds == kind].mean() for kind in np.unique(kinds)]))


def _interval(kinds: np.ndarray, values: np.ndarray, draws: int = 2000) -> list[float]:
    """95 %, questions drawn again within each kind."""
    source = np.random.default_rng(0)
    parts = [values[kinds == kind] for kind in np.unique(kinds)]
    means = [np.mean([part[source.integers(len(part), size=len(part))].mean() for part in parts]) for _ in range(draws)]
    return [float(x) for x in np.quantile(means, [0.025, 0.975])]


def above_chance(folder: Path, model: RoutedModel, kinds: Sequence[str], limit: int) -> dict[str, Any]:
    """Kinds whose accuracy is so many points above chance, by their name."""
    asked = questions_of(folder, kinds, "validation", limit)
    is_right = right(asked, scores(model, asked, None, {}))
    task, chance = np.array([q.task for q in asked]), np.array([1 / len(q.choices) for q in asked])
    margin = {k: 100 * float((is_right - chance)[task == k].mean()) for k in kinds}
    above = sum(m >= ABOVE for m in margin.values())
    return {"above": above, "of": len(margin), "n": len(asked), "margin": margin}


@torch.no_grad()
def sharing(model: RoutedModel, questions: Sequence[Question]) -> dict[str, Any]:
    """Mutual information of expert and kind in each layer at the tokens that score answers, as a share of the experts'
    entropy, the smaller one."""
    kinds = sorted({q.task for q in questions})
    joint = torch.zeros(len(model.sites), len(kinds), model.n_experts, dtype=torch.float64)
    for first in range(0, len(questions), BATCH):
        part = list(questions[first : first + BATCH])
        number = torch.tensor([kinds.index(q.task) for q in part])

        def note(routing: LayerRouting, number: Tensor = number) -> None:
            weights = torch.zeros(len(routing.index), model.n_experts).scatter_add(1, routing.index, routing.weights)
            joint[routing.position].index_add_(0, number[routing.sample], (weights * routing.real[:, None]).double())

        model.ruled([model.encode(q) for q in part], note, start=0)
    shares = []
    for layer in joint / joint.sum((1, 2), keepdim=True):
        product = layer.sum(1, keepdim=True) * layer.sum(0, keepdim=True)
        information = float(torch.xlogy(layer, layer / product.clamp_min(1e-300)).sum())
        load = layer.sum(0)
        shares.append(information / float(-torch.xlogy(load, load).sum()))
    return {"mean": float(np.mean(shares)), "by_layer": shares}


@torch.no_grad()
def text(donor: PreTrainedModel, model: PreTrainedModel, tokenizer: Any) -> dict[str, Any]:
    """Nats a token on Python's language reference, of both models, and the gap with its interval over rows."""
    rows = corpus.pack(corpus.independent(), tokenizer, 128, TEXT_ROWS, seed=0)
    each = np.array([[_nll(m, part) for part in rows.split(1)] for m in (donor, model)])
    gap = each[1] - each[0]
    low, high = bootstrap((gap,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    means = {"dense": each[0].mean(), "moe": each[1].mean(), "gap": gap.mean()}
    return {"tokens": rows.numel(), **means, "ci": [low, high]}


def _nll(model: PreTrainedModel, rows: Tensor) -> float:
    logits = model(rows, use_cache=False).logits[:, :-1].flatten(0, 1)
    return F.cross_entropy(logits.float(), rows[:, 1:].flatten()).item()


def figures(
    folder: Path, model: RoutedModel, donor: PreTrainedModel, known: Mapping[str, Any], limit: int
) -> Iterator[dict[str, Any]]:
    """Everything the card reports, part by part on top of what is ``known``, on so many questions of each kind."""
    learned = [kind for family in FAMILIES.values() for kind in family.learned]
    every = sorted({path.name.split(".")[0] for path in folder.glob("*.validation.jsonl")})
    asked = questions_of(folder, learned, "test", limit)
    parts: dict[str, Callable[[], Any]] = {
        "leverage": lambda: leverage(model, asked),
        "above_chance": lambda: above_chance(folder, model, every, limit),
        "sharing": lambda: sharing(model, asked),
        "text": lambda: text(donor, model.model, model.tokenizer),
        "questions": lambda: dict(Counter(q.task for q in asked)),
    }
    found = dict(known) if known.get("limit") == limit else {"model": known["model"], "limit": limit}
    for name, part in parts.items():
        if name not in found:
            found |= {name: part()}
            yield found
