"""Counterfactual routes: other experts for the same compute in the last MoE layers, and one route kept; in one file.

"When Are Experts Misrouted? Counterfactual Routing Analysis in Mixture-of-Experts Language Models" (Yoon et al. 2026,
arXiv 2605.07260). Routes of equal compute are drawn by Gumbel-top-k: the experts of TopK(r + G), weighed as the router
weighs them. The paper scores a route by the probability that it gives to the token that comes, which is the label:
``choose="label"`` does this for the right option, and is an upper bound, declared as one. Without the label it has no
rule; ``choose="confidence"`` is ours: the route whose distribution over the choices has the least entropy. A route is
drawn for all tokens from the prompt's last one on together; the model's own route is always among them.

The paper claims that the router is right on confident tokens and no guide on fragile ones, where better routes of equal
compute exist in the frozen model; and that updating the last layer's router alone moves pass@K on AIME and HMMT.

Try it: ``c3po demo --arm gumbel-routes``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence

from c3po_adaptive import (
    Answer,
    Answerer,
    AnswererStrategy,
    AnsweringContext,
    Change,
    DataError,
    Entry,
    LayerRouting,
    Ledger,
    Prompt,
    Question,
    SettingError,
    hookimpl,
)


@dataclass(frozen=True)
class GumbelRoutes(AnswererStrategy):
    """The best of ``routes`` drawn in the last ``layers`` MoE layers and the model's own.

    Attributes:
        routes: how many are drawn.
        layers: of the last MoE layers, how many are drawn in (the paper: the last one).
        choose: by what a route is the best: the model's own confidence, or the label (an upper bound).
    """

    routes: NonNegativeInt = 8
    layers: PositiveInt = 1
    choose: Literal["confidence", "label"] = "confidence"
    name: ClassVar[str] = "gumbel-routes"

    def fits(self, strategies: object, layers: tuple[int, ...], experts: int, references: int) -> None:
        if self.layers > len(layers):
            raise SettingError(
                f"Expected gumbel-routes.layers <= {len(layers)}, the model's MoE layers, got {self.layers}."
            )

    def prepare(self, context: AnsweringContext) -> Answerer:
        self.fits(context.strategies, context.model.layers, context.model.n_experts, 0)
        return _Router(self, context, needs_label=self.choose == "label")

    def used(self, strategies: object) -> tuple[str, ...]:
        return ("seed",)


@dataclass(frozen=True, eq=False)
class _Route:
    """The rule of one route: ``noise [B, n, S, E]`` in the n layers from ``start`` on, for tokens from ``last`` on."""

    noise: Tensor
    last: Tensor
    start: int

    def __call__(self, routing: LayerRouting) -> Change:
        place = routing.token - self.last[routing.sample]
        noise = self.noise[routing.sample, routing.position - self.start, place.clamp(0, self.noise.shape[2] - 1)]
        noisy = routing.logits + noise.masked_fill((place < 0)[:, None], 0).to(routing.logits.device)
        return routing.change(noisy.topk(routing.index.shape[1]).indices)


@dataclass(frozen=True, eq=False)
class _Router:
    strategy: GumbelRoutes
    context: AnsweringContext
    needs_label: bool = field(default=False)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of its tail in the last layers, once a route.

        Raises:
            DataError: a question without its label, if routes are chosen by that.
        """
        began = time.perf_counter()
        plain, prompts, model = self.context.plain(questions), self.context.prompts(questions), self.context.model
        start = len(model.layers) - self.strategy.layers
        generators = [self.context.generator(question) for question in questions]
        last = torch.tensor([len(prompt.ids) - 1 for prompt in prompts])
        routes = [model.ruled(prompts)]
        for _ in range(self.strategy.routes):
            noise = [
                _gumbel(g, prompt, self.strategy.layers, model.n_experts)
                for g, prompt in zip(generators, prompts, strict=True)
            ]
            table = pad_sequence(noise, batch_first=True).transpose(1, 2)
            routes.append(model.ruled(prompts, _Route(table, last, start), start=start))
        seconds = (time.perf_counter() - began) / len(questions)
        found = []
        for question, base, runs in zip(questions, plain, zip(*routes, strict=True), strict=True):
            scores = self._best(question, torch.stack([run.scores() for run in runs]))
            work = sum((run.work for run in runs[1:]), Entry())
            ledger = Ledger(prefill=base.ledger.prefill, optimisation=work.lasting(seconds))
            found.append(replace(base, choice=int(scores.argmax()), scores=tuple(scores.tolist()), ledger=ledger))
        return found

    def _best(self, question: Question, scores: Tensor) -> Tensor:
        """The scores ``[C]`` of the best route, of ``scores [n, C]``; of equals the first, which is the model's own."""
        if self.strategy.choose == "confidence":
            log = scores.log_softmax(-1)
            return scores[int((log.exp() * log).sum(-1).argmax())]
        if question.answer is None:
            raise DataError(f"gumbel-routes expected the label of question {question.id!r}, to choose a route by it.")
        return scores[int(scores[:, question.answer].argmax())]


def _gumbel(generator: Generator, prompt: Prompt, layers: int, experts: int) -> Tensor:
    """Gumbel noise ``[S, n, E]`` for the prompt's last token and the longest option."""
    width = max(map(len, prompt.options))
    uniform = torch.rand(width, layers, experts, generator=generator, dtype=torch.float64)
    return -(-uniform.clamp_min(1e-300).log()).log().float()


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [GumbelRoutes]
