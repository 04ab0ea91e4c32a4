"""One expert at every token and layer, that which answers a question's neighbours best: ``neighbours-expert``.

What who merges fine-tunes could do without their router: an expert that is forced alone is the fine-tune it was made
of, and labeled questions say which of them a question is for. It means something where an expert is the same model in
every layer, as in a merge.

Try it: ``c3po study run studies/merged/second.yaml …``, arm ``neighbours' expert``.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from c3po_adaptive import (
    Answer,
    Answerer,
    AnswererStrategy,
    AnsweringContext,
    Change,
    Ledger,
    Question,
    bar,
    hookimpl,
    right_answer_loss,
)

if TYPE_CHECKING:
    from c3po_adaptive import LayerRouting, Strategies

LOSSES, FLOPS, TRIED = "losses", "flops", "tried"


@dataclass(frozen=True, eq=False)
class Alone:
    """Every token of a sample to one expert of each layer, by ``expert [B]``, at the weight of all that it used."""

    expert: Tensor

    def __call__(self, routing: LayerRouting) -> Change:
        own = self.expert[routing.sample, None].to(routing.index.device)
        pair = torch.cat([own, (own + 1) % routing.logits.shape[-1]], 1)  # some experts cannot take one column
        mass = routing.weights.sum(-1, keepdim=True)
        return Change(None, pair, torch.cat([mass, torch.zeros_like(mass)], 1), torch.ones_like(own[:, 0]))


@dataclass(frozen=True)
class NeighboursExpert(AnswererStrategy):
    """Answers by the expert whose loss is least on the question's nearest references (by the arm's retriever).

    Attributes:
        tried: how many references each expert is tried on, drawn by the arm's seed; others have no say.
    """

    tried: PositiveInt = 210
    name: ClassVar[str] = "neighbours-expert"
    likelihoods: ClassVar[bool] = True

    def prepare(self, context: AnsweringContext) -> Answerer:
        known = context.references_for(self.name).candidates(context.settings).questions
        found = context.learned_once(_Tried(self.tried), lambda: self._try(context, known), Alone, right_answer_loss)
        return _ByNeighbours(context, [known[row].id for row in found[TRIED].tolist()], found)

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ("retriever", "loss", "learn_from", "labels", "max_similarity", "seed")

    def _try(self, context: AnsweringContext, known: Sequence[Question]) -> dict[str, Tensor]:
        """Rows of the references that were tried ``[N]``, the loss of each expert on each ``[N, E]``, and FLOPs."""
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(context.settings.seed))
        rows = order[: self.tried].tolist()
        asked, experts, size = [known[row] for row in rows], context.model.n_experts, context.batch_size
        losses, flops = torch.zeros(len(rows), experts), 0.0
        parts = [(e, i) for e in range(experts) for i in range(0, len(asked), size)]
        for e, i in bar(parts, f"{self.name}: {experts} experts on {len(asked)} references"):
            part = asked[i : i + size]
            prompts, chosen = context.prompts(part), torch.full((len(part),), e)
            for place, (question, one) in enumerate(
                zip(part, context.model.ruled(prompts, Alone(chosen)), strict=True)
            ):
                right = torch.tensor([question.answer])
                losses[i + place, e] = right_answer_loss(one.scores()[None], right, context.settings.loss)[0]
                flops += one.work.flops
        return {TRIED: torch.tensor(rows), LOSSES: losses, FLOPS: torch.tensor(flops, dtype=torch.float64)}


@dataclass(frozen=True)
class _Tried(NeighboursExpert):
    """What experts lose on references is the same whichever of these are a question's neighbours."""

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ("loss", "learn_from", "labels", "seed")


@dataclass(frozen=True, eq=False)
class _ByNeighbours:
    context: AnsweringContext
    tried: Sequence[str]
    found: Mapping[str, Tensor]
    needs_label: ClassVar[bool] = False

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of one pass along one expert."""
        context, began = self.context, time.perf_counter()
        near = [self._those_tried(found) for found in context.nearest(questions)]
        chosen = torch.tensor([self._expert({q.id for q, _ in found}) for found in near])
        along = context.model.ruled(context.prompts(questions), Alone(chosen))
        seconds = (time.perf_counter() - began) / max(1, len(questions))
        scored = [(one, one.scores()) for one in along]
        return [
            replace(
                base,
                choice=int(scores.argmax()),
                scores=tuple(scores.tolist()),
                ledger=Ledger(prefill=one.work.lasting(seconds)),
                setup_flops=float(self.found[FLOPS]),
                neighbours=tuple((q.id, similarity, 1 / len(own)) for q, similarity in own),
            )
            for base, (one, scores), own in zip(context.plain(questions), scored, near, strict=True)
        ]

    def _those_tried(self, near: Sequence[tuple[Question, float]]) -> list[tuple[Question, float]]:
        known = {*self.tried}
        return [(question, similarity) for question, similarity in near if question.id in known]

    def _expert(self, near: Collection[str]) -> int:
        """Of least mean loss on those of the neighbours that were tried; on all, where none of them was."""
        own, losses = torch.tensor([one in near for one in self.tried]), self.found[LOSSES]
        return int((losses[own] if own.any() else losses).mean(0).argmin())


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [NeighboursExpert]
