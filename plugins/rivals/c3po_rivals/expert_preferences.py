"""Expert preference optimization: the last layer's router taught which routes would have done better; in one file.

"When Are Experts Misrouted? Counterfactual Routing Analysis in Mixture-of-Experts Language Models" (Yoon et al. 2026,
arXiv 2605.07260), whose analysis is ``gumbel-routes``: this is its router-only update. The last MoE layer's router is
trained, every expert and every other router is frozen. For each token whose cross-entropy is above τ, r⁻ is the top-k
route of the router π_θ as it is now, and G routes are drawn from π_θ by Gumbel-top-k. Where the one of least
cross-entropy, r⁺, is better than r⁻, the token's loss is −Δ log σ(β log π_θ(r⁺)/π_ref(r⁺) − β log π_θ(r⁻)/π_ref(r⁻)),
Δ the cross-entropy that r⁺ saves, π_ref the untrained router and log π(r) = Σ_{e∈r} log π(e); other tokens give no
gradient. G = 32 (the paper's for Qwen3), τ = 0.1, β = 0.1, rate 3e-4, batches of 16, one epoch.

The paper's own text was out of reach: objective and numbers are as github.com/Nhckdvrl/ssn-group-papaer quotes them
from it (CT03, docs/PARENT_EPO_VERIFIED.md and E11_DESIGN.md), which also finds that the loss can be met by experts of
neither route: it compares two routes, and does not say which is on top.

Departs: tokens are those of the right option behind a reference's prompt, where the paper takes verified trajectories
of reasoning; a batch is of references; a fifth of them is held back, and gradients are clipped, as of
``router-tuning``.

The paper claims that this update shifts pass@K on AIME 2024 and 2025 and HMMT 2025, with Qwen3-30B-A3B and GPT-OSS-20B.

Try it: ``c3po demo --arm epo``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from c3po_tuned import Labeled, Lesson, RouterTuning, Trained, Training, Tuning
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence

from c3po_adaptive import AnswererStrategy, Change, LayerRouting, hookimpl

if TYPE_CHECKING:
    from c3po_adaptive import Prompt, RoutedModel, RoutingRule, State


@dataclass(frozen=True, kw_only=True)
class ExpertPreferences(Trained):
    """The last MoE layer's router, taught by drawn routes that would have made right answers' tokens likelier.

    Attributes:
        epochs: passes over the references, at most.
        lr: learning rate.
        batch: references a step.
        routes: G, how many are drawn for each token.
        hard: τ, the cross-entropy in nats above which a token teaches.
        beta: β, how fast a preference is learned enough.
    """

    epochs: PositiveInt = 1
    lr: PositiveFloat = 3e-4
    batch: PositiveInt = 16
    routes: PositiveInt = 32
    hard: NonNegativeFloat = 0.1
    beta: PositiveFloat = 0.1
    name: ClassVar[str] = "epo"
    uses_peft: ClassVar[bool] = False

    @property
    def code(self) -> tuple[Any, ...]:
        return (LayerRouting,)

    def tuning(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tuning:
        return RouterTuning(layers=model.layers[-1:]).tuning(model, prompts)

    def lesson(self, training: Training) -> Lesson:
        return _Preferences.of(self, training)


@dataclass(frozen=True, eq=False)
class _Preferences:
    """What tokens of right options lose by the route that the router takes, and not the best one drawn.

    Attributes:
        strategy: whose.
        training: whose.
        reference: of each question by its id, the logits ``[S, E]`` of π_ref for the right option's tokens.
        generator: draws routes.
        once: FLOPs of reading each question, which is kept, and of ``reference``.
    """

    strategy: ExpertPreferences
    training: Training
    reference: dict[str, Tensor]
    generator: Generator
    once: float

    @classmethod
    @torch.no_grad()
    def of(cls, strategy: ExpertPreferences, training: Training) -> _Preferences:
        """With the model as it was."""
        model, known, size = training.context.model, training.learned_from, strategy.batch
        reference: dict[str, Tensor] = {}
        once = 0.0
        for part in (known[i : i + size] for i in range(0, len(known), size)):
            states = model.prefill([_right(one) for one in part])
            seen = _Seen.of(model, states)
            _, work = _cross_entropy(model, states, seen)
            rows = zip(part, seen.logits, states, strict=True)
            reference |= {one.question.id: row[: len(state.prompt.options[0])] for one, row, state in rows}
            once += work + sum(state.work.flops for state in states)
        return cls(strategy, training, reference, Generator().manual_seed(training.context.settings.seed), once)

    def __call__(self, part: Sequence[Labeled], step: int) -> tuple[Tensor, float]:
        model, tuning = self.training.context.model, self.training.tuning
        states = model.prefill([_right(one) for one in part])  # before the router is exchanged: they are kept
        seen = _Seen.of(model, states)
        with tuning.placed():
            lost, work = _cross_entropy(model, states, seen)
            best, better, drawing = self._drawn(states, seen)
        saved = lost - best
        teaches = (lost > self.strategy.hard) & (saved > 0)
        reference = pad_sequence([self.reference[one.question.id] for one in part], batch_first=True)
        margin = _preferred(seen.logits, better, seen.own) - _preferred(reference, better, seen.own)
        each = -saved[teaches] * logsigmoid(self.strategy.beta * margin[teaches])
        loss = each.sum() / max(1, len(each))
        gradient = 2.0 * sum(state.packed.rows for state in states) * tuning.weights
        return loss, work + drawing + gradient + (0.0 if step else self.once)

    @torch.no_grad()
    def _drawn(self, states: Sequence[State], seen: _Seen) -> tuple[Tensor, Tensor, float]:
        """The least cross-entropy of each token's drawn routes ``[B, S]``, that route ``[B, S, k]``, and the FLOPs."""
        best, better, total = torch.full(seen.own.shape[:2], torch.inf), seen.own, 0.0
        for _ in range(self.strategy.routes):
            noise = _gumbel(self.generator, seen.logits.shape)
            index = (seen.logits.detach() + noise).topk(seen.own.shape[-1]).indices
            lost, work = _cross_entropy(self.training.context.model, states, _Along(seen.last, index))
            other = (index.sort().values != seen.own.sort().values).any(-1)
            ahead = other & (lost < best)
            best, better = torch.where(ahead, lost, best), torch.where(ahead[..., None], index, better)
            total += work
        return best, better, total


@dataclass(eq=False)
class _Seen:
    """A rule that changes nothing, and looks at the tokens that predict one of the option: the prompt's last one first.

    Attributes:
        last: ``[B]`` place of each prompt's last token.
        logits: ``[B, S, E]`` what the router made of them; 0 where an option is shorter.
        own: ``[B, S, k]`` what it chose.
    """

    last: Tensor
    logits: Tensor
    own: Tensor

    @classmethod
    def of(cls, model: RoutedModel, states: Sequence[State]) -> _Seen:
        prompts, site = [state.prompt for state in states], model.sites[-1]
        shape = len(prompts), max(len(prompt.options[0]) for prompt in prompts)
        last = torch.tensor([len(prompt.ids) - 1 for prompt in prompts])
        return cls(last, torch.zeros(*shape, site.n_experts), torch.zeros(*shape, site.top_k, dtype=torch.long))

    def __call__(self, routing: LayerRouting) -> None:
        rows, at = _places(routing, self.last, self.own.shape[1])
        self.logits = self.logits.index_put(at, routing.logits.cpu()[rows])
        self.own = self.own.index_put(at, routing.index.cpu()[rows])


@dataclass(frozen=True, eq=False)
class _Along:
    """The rule that gives those tokens the experts ``index [B, S, k]``, weighed as the router weighs them."""

    last: Tensor
    index: Tensor

    def __call__(self, routing: LayerRouting) -> Change:
        rows, at = _places(routing, self.last, self.index.shape[1])
        chosen = routing.index.cpu().index_put((rows,), self.index[at])
        return routing.change(chosen.to(routing.index.device))


def _places(routing: LayerRouting, last: Tensor, width: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The rows of a call that predict a token of the option; of each, its sample and which token of the option."""
    place = routing.token - last[routing.sample]
    rows = (routing.real & (place >= 0) & (place < width)).nonzero().squeeze(1)
    return rows, (routing.sample[rows], place[rows])


def _cross_entropy(model: RoutedModel, states: Sequence[State], rule: RoutingRule) -> tuple[Tensor, float]:
    """``[B, S]`` of each token of the option, 0 of those that are given or not there, along a rule in the last MoE
    layer; and the FLOPs."""
    runs = model.ruled_from(states, rule, start=len(model.layers) - 1)
    rows = [(-run.token_scores.detach().cpu()).masked_fill(run.option < 0, 0) for run in runs]
    return pad_sequence(rows, batch_first=True), sum(run.work.forward.total for run in runs)


def _preferred(logits: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """``[B, S]`` log π(r⁺) − log π(r⁻) of routes ``[B, S, k]``, whose experts count each by itself."""
    log = logits.log_softmax(-1)
    return log.gather(-1, one).sum(-1) - log.gather(-1, other).sum(-1)


def _right(one: Labeled) -> Prompt:
    """The prompt with the right option alone."""
    prompt, at = one.prompt, slice(one.answer, one.answer + 1)
    return replace(prompt, options=prompt.options[at], lengths=prompt.lengths[at], given=prompt.given[at])


def _gumbel(generator: Generator, shape: Sequence[int]) -> Tensor:
    uniform = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return -(-uniform.clamp_min(1e-300).log()).log().float()


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [ExpertPreferences]
