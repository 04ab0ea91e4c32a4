"""Expert-Sample: the router's certain experts kept, its uncertain ones drawn, and one sample chosen; in one file.

"Certain Head, Uncertain Tail: Expert-Sample for Test-Time Scaling in Fine-Grained MoE" (Chen et al. 2026, arXiv
2602.02443). In each sample every MoE layer keeps the experts that it ranks highest, for each token; the others of its
top-k are drawn without replacement, by Gumbel noise on router logits over a temperature, among those that it ranks
next; what is mixed is weighed by the router's own scores. No more experts are run, and nothing is trained.

The paper's text was out of reach: the method is as its abstract and a summary of its sections tell it. They name three
knobs (experts kept, temperature, range of ranks) and an appendix of recommended values, which they do not give: those
here are ours. Five of eight are kept and ranks to four times k are drawn from, as arXiv 2602.02443 is said to compare
(greedy accuracy holds with five of Qwen3's eight; ranks 5 to 32 hardly differ); the temperature is one.

Departs: options are scored, not written, so a sample is a set of scores. The paper counts pass@n, or chooses by a
verifier (best of n, weighted majority). ``choose="label"`` is pass@n, an upper bound, and declared as one; without a
verifier ``choose="confidence"`` takes the sample of least entropy over the choices, which is ours. The prompt is run
once, without noise, and what is predicted from it with noise, all layers and tokens apart; options meet the same noise.

The paper claims that pass@32 rises from 85.4 to 91.9 % on GPQA-Diamond with Qwen3-30B-A3B, and accuracy from 59.1 to
62.6 % by best of n.

Try it: ``c3po demo --arm expert-sample``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
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
class ExpertSample(AnswererStrategy):
    """The best of ``samples`` in which every MoE layer keeps its first experts and draws the others.

    Attributes:
        samples: n, how many there are.
        kept: experts of each token that are not drawn; None: five of eight that are mixed, and one less than all at
            most.
        temperature: of the router logits that others are drawn by; 0: the router's own choice.
        ranks: how many of the router's first experts may be mixed; None: four times as many as are.
        choose: by what a sample is the best: the model's own confidence, or the label (an upper bound: pass@n).
    """

    samples: PositiveInt = 32
    kept: NonNegativeInt | None = None
    temperature: NonNegativeFloat = 1.0
    ranks: PositiveInt | None = None
    choose: Literal["confidence", "label"] = "confidence"
    name: ClassVar[str] = "expert-sample"

    def fits(self, strategies: object, layers: tuple[int, ...], experts: int, references: int) -> None:
        if (self.ranks or 0) > experts:
            raise SettingError(f"Expected expert-sample.ranks <= {experts}, the model's experts, got {self.ranks}.")

    def prepare(self, context: AnsweringContext) -> Answerer:
        self.fits(context.strategies, context.model.layers, context.model.n_experts, 0)
        k, experts = context.model.sites[0].top_k, context.model.n_experts
        kept = min(round(5 / 8 * k), k - 1) if self.kept is None else self.kept
        ranks = min(4 * k, experts) if self.ranks is None else self.ranks
        if not kept <= k <= ranks:
            raise SettingError(
                f"Expected expert-sample.kept <= {k} <= expert-sample.ranks, the experts that the model mixes for each "
                f"token, got kept {kept} and ranks {ranks}."
            )
        return _Sampler(self, context, kept, ranks, needs_label=self.choose == "label")

    def used(self, strategies: object) -> tuple[str, ...]:
        return ("seed",)


@dataclass(frozen=True, eq=False)
class _Sample:
    """The rule of one sample: ``noise [B, L, S, E]`` on tail tokens, which begin at ``last [B]``; none before."""

    noise: Tensor
    last: Tensor
    kept: int
    ranks: int
    temperature: float

    def __call__(self, routing: LayerRouting) -> Change:
        place = routing.token - self.last[routing.sample]
        noise = self.noise[routing.sample, routing.position, place.clamp(0, self.noise.shape[2] - 1)]
        noise = noise.masked_fill((place < 0)[:, None], 0).to(routing.logits.device)
        scores, ranked = routing.logits.topk(self.ranks)
        drawn = scores[:, self.kept :] / self.temperature + noise.gather(1, ranked[:, self.kept :])
        others = drawn.topk(routing.index.shape[1] - self.kept).indices + self.kept
        return routing.change(torch.cat([ranked[:, : self.kept], ranked.gather(1, others)], 1))


@dataclass(frozen=True, eq=False)
class _Sampler:
    strategy: ExpertSample
    context: AnsweringContext
    kept: int
    ranks: int
    needs_label: bool = field(default=False)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of its tail as often as there are samples.

        Raises:
            DataError: a question without its label, if samples are chosen by that.
        """
        began = time.perf_counter()
        plain, prompts, model = self.context.plain(questions), self.context.prompts(questions), self.context.model
        if self.strategy.temperature == 0 or model.sites[0].top_k in (self.kept, self.ranks):
            return plain  # nothing is left to chance
        generators = [self.context.generator(question) for question in questions]
        last = torch.tensor([len(prompt.ids) - 1 for prompt in prompts])
        shape, samples = (len(model.layers), model.n_experts), []
        for _ in range(self.strategy.samples):
            noise = [_gumbel(g, prompt, *shape) for g, prompt in zip(generators, prompts, strict=True)]
            table = pad_sequence(noise, batch_first=True).transpose(1, 2)
            rule = _Sample(table, last, self.kept, self.ranks, self.strategy.temperature)
            samples.append(model.ruled(prompts, rule, start=0))
        seconds = (time.perf_counter() - began) / len(questions)
        found = []
        for question, base, runs in zip(questions, plain, zip(*samples, strict=True), strict=True):
            scores = self._best(question, torch.stack([run.scores() for run in runs]))
            work = sum((run.work for run in runs), Entry())
            ledger = Ledger(prefill=base.ledger.prefill, answer=work.lasting(seconds))
            found.append(replace(base, choice=int(scores.argmax()), scores=tuple(scores.tolist()), ledger=ledger))
        return found

    def _best(self, question: Question, scores: Tensor) -> Tensor:
        """The scores ``[C]`` of the best sample, of ``scores [n, C]``; of equals the first."""
        if self.strategy.choose == "confidence":
            log = scores.log_softmax(-1)
            return scores[int((log.exp() * log).sum(-1).argmax())]
        if question.answer is None:
            raise DataError(f"expert-sample expected the label of question {question.id!r}, to choose a sample by it.")
        others = scores.index_fill(1, torch.tensor(question.answer), -torch.inf).amax(1)
        return scores[int((scores[:, question.answer] - others).argmax())]


def _gumbel(generator: Generator, prompt: Prompt, layers: int, experts: int) -> Tensor:
    """Gumbel noise ``[S, L, E]`` for the prompt's last token and the longest option."""
    width = max(map(len, prompt.options))
    uniform = torch.rand(width, layers, experts, generator=generator, dtype=torch.float64)
    return -(-uniform.clamp_min(1e-300).log()).log().float()


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [ExpertSample]
