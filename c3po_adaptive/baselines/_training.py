"""Train something in a frozen model on labeled references, keep it beside them, and answer with it.

A ``Tuning`` is put into the model for each step and for each answer, and taken out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn

from ..answerers.base import Bench
from ..errors import C3POError, ModelError, SettingError
from ..losses import right_answer_loss
from ..models.fingerprint import computed, fingerprint, numbers_of
from ..progress import bar
from ..references.learned import learned_once
from ..references.reference_set import ReferenceSet
from ..routing.flops import measure
from ..routing.whole_prompts import NO_PREFIX, PromptPrefix, WholePrompts
from ..storage.kept import NoSource, code_of
from ..tasks.formats import format_key
from ..types import Answer, Prompt, Question
from ._references import check_count, references_of
from ._rescored import rescored
from ._tuning import Learner, Tuning

if TYPE_CHECKING:
    from ..models.routed import RoutedModel

HELD_BACK = 0.2
STEEPEST = 1.0  # norm that gradients are clipped to
FLOPS, LOSSES = "flops", "held-back losses"  # kept beside what was learned


@dataclass(frozen=True)
class Labeled:
    """A reference to learn from: its prompt, its right choice, and its scores along the model as it is."""

    prompt: Prompt
    answer: int
    scores: tuple[float, ...]


def tuned(strategy: Learner, bench: Bench) -> Tuned:
    """The answerer of a strategy, once it has learned.

    Raises:
        SettingError: too few references.
        DataError: they are of another model, format or embedder; or what was kept of an earlier training is.
        ModelError: the model's family cannot be trained like that.
    """
    references = references_of(bench, strategy.name)
    known = _labeled(bench, references)
    check_count(strategy.name, len(known))
    order = torch.randperm(len(known), generator=_generator(bench)).tolist()
    held_back, learned_from = _parted([known[i] for i in order])
    with bench.model.lock, _unchanged(bench.model):
        with torch.random.fork_rng(devices=[]), _refused(strategy, bench.model):
            torch.manual_seed(bench.settings.seed)
            tuning = strategy.tuning(bench.model, [one.prompt for one in learned_from])
        training = _Training(strategy, bench, tuning, learned_from, held_back)
        try:
            found = learned_once(references, _identity(strategy, bench, references), training.run)
        except NoSource:
            found = training.run()
    once, losses = float(found[FLOPS]), tuple(found[LOSSES].tolist())
    return Tuned(bench, _filled(tuning, found), once, _count(tuning.parameters.values()), losses)


def _labeled(bench: Bench, references: ReferenceSet) -> list[Labeled]:
    """The references that are not asked, answered right and wrong, with the labels that the settings say."""
    labeled = references.labeled_by(bench.settings)
    pairs = zip(labeled.questions, labeled.scores, strict=True)
    asked = [(question, scores) for question, scores in pairs if question.id not in bench.held_out]
    prompts = bench.prompts([question for question, _ in asked])
    return [
        Labeled(prompt, question.answer, scores)
        for prompt, (question, scores) in zip(prompts, asked, strict=True)
        if question.answer is not None
    ]


def _parted(known: list[Labeled]) -> tuple[list[Labeled], list[Labeled]]:
    """Those held back, and those learned from."""
    held_back = max(1, round(HELD_BACK * len(known)))
    return known[:held_back], known[held_back:]


def _generator(bench: Bench) -> torch.Generator:
    return torch.Generator().manual_seed(bench.settings.seed)


def _identity(strategy: Learner, bench: Bench, references: ReferenceSet) -> list[Any]:
    """What decides what is learned."""
    settings = {name: getattr(bench.settings, name) for name in strategy.used(bench.strategies)}
    asked = sorted(bench.held_out & {q.id for q in references.questions})
    peft = version("peft") if strategy.uses_peft else None
    code = code_of(strategy, _Training, right_answer_loss, WholePrompts)
    known = [format_key(bench.format), settings, asked, references.card.get("source"), numbers_of(bench.model)]
    return [repr(strategy), code, *known, peft]


@contextmanager
def _unchanged(model: RoutedModel) -> Iterator[None]:
    """The model's fingerprint has to be the same afterwards, whatever happens: every weight is read."""
    before = fingerprint(model)
    try:
        yield
    finally:
        if computed(model) != before:
            raise ModelError(
                f"Expected {type(model.model).__name__} to be as it was after training, bit for bit, got other "
                "weights; load the model anew, and report this."
            )


@contextmanager
def _refused(strategy: Learner, model: RoutedModel) -> Iterator[None]:
    """What fails inside, in PEFT or in the model's own code, is that family's, unless it is memory."""
    try:
        yield
    except C3POError:
        raise
    except Exception as error:  # neither library says which families it supports
        if should_reduce_batch_size(error):
            raise SettingError(
                f"{strategy.name} expected memory for {strategy.batch} references at once, got: {error} Set batch to "
                "fewer, or train later layers alone."
            ) from error
        family = model.model.config.get_text_config().model_type
        raise ModelError(
            f"{strategy.name} cannot be used on {type(model.model).__name__} of the family {family}: "
            f"{type(error).__name__}: {str(error).strip()[:500]}. Use a baseline that trains something else."
        ) from error


@dataclass(frozen=True, eq=False)
class _Training:
    """One training."""

    strategy: Learner
    bench: Bench
    tuning: Tuning
    learned_from: list[Labeled]
    held_back: list[Labeled]

    @cached_property
    def whole(self) -> WholePrompts:
        """Runs the model from the first layer on that the tuning acts in."""
        model = self.bench.model
        return whole_of(model, self.tuning, self.tuning.layer if model.sites[0].entered else 0)

    def run(self) -> dict[str, Tensor]:
        """The best epoch's parameters, or none where the model as it was is better; with FLOPs and held-back losses.

        Raises:
            ModelError: gradients do not reach what is trained, or the loss is no number any more.
        """
        with _refused(self.strategy, self.bench.model), torch.enable_grad():
            self._try()
            return self._run()

    def _run(self) -> dict[str, Tensor]:
        losses, best, left = [self._held_back_loss(NO_PREFIX)], float("inf"), self.strategy.patience
        found: dict[str, Tensor] = {}
        known = [*self.learned_from, *self.held_back]
        work = sum(self.whole.work_once(one.prompt).flops for one in known) + self._work(self.held_back)
        parameters = list(self.tuning.parameters.values())
        optimizer = torch.optim.AdamW(parameters, lr=self.strategy.lr, weight_decay=0.0)
        for part, ends in self._batches():
            optimizer.zero_grad()
            self._loss(part).backward()
            nn.utils.clip_grad_norm_(parameters, STEEPEST)
            optimizer.step()
            work += self._work(part, self.tuning.weights)
            if not ends:
                continue
            losses.append(self._held_back_loss())
            work += self._work(self.held_back)
            left -= 1
            if losses[-1] < best:
                best, left = losses[-1], self.strategy.patience
                found = {name: p.detach().clone() for name, p in self.tuning.parameters.items()}
            if left == 0:
                break
        kept = found if best < losses[0] else {}
        return kept | {FLOPS: torch.tensor(work, dtype=torch.float64), LOSSES: torch.tensor(losses)}

    def _batches(self) -> Iterator[tuple[list[Labeled], bool]]:
        """The references of each step, and whether an epoch ends with them."""
        generator, count, size = _generator(self.bench), len(self.learned_from), self.strategy.batch
        parts = [
            ([self.learned_from[j] for j in order[i : i + size]], i + size >= count)
            for order in (torch.randperm(count, generator=generator).tolist() for _ in range(self.strategy.epochs))
            for i in range(0, count, size)
        ]
        yield from bar(parts, f"{self.strategy.name}: learning from {count} references")

    def _loss(self, examples: Sequence[Labeled], opening: PromptPrefix | None = None) -> Tensor:
        """Along the model as it is where an opening is given, else with the tuning in it."""
        prompts = [one.prompt for one in examples]
        if opening is not None:
            scores = self.whole.scores(prompts, opening)
        else:
            with self.tuning.placed() as own:
                scores = self.whole.scores(prompts, own)
        answers = torch.tensor([one.answer for one in examples])
        loss = right_answer_loss(scores, answers, self.bench.settings.loss).mean()
        if not loss.isfinite():
            raise ModelError(
                f"{self.strategy.name} expected a finite loss while training, got {loss.item()}; lower lr, or load the "
                "model in float32."
            )
        return loss

    @torch.no_grad()
    def _held_back_loss(self, opening: PromptPrefix | None = None) -> float:
        size = self.bench.batch_size
        parts = [self.held_back[i : i + size] for i in range(0, len(self.held_back), size)]
        return sum(self._loss(part, opening).item() * len(part) for part in parts) / len(self.held_back)

    def _work(self, examples: Sequence[Labeled], trained: int | None = None) -> float:
        with self.tuning.placed() as opening:
            return sum(self.whole.work(one.prompt, opening, trained).flops for one in examples)

    def _try(self) -> None:
        """Raises whatever the family does not support."""
        loss, parameters = self._loss(self.learned_from[:1]), list(self.tuning.parameters.values())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True) if loss.requires_grad else ()
        if not any(g is not None and g.any() for g in gradients):
            raise RuntimeError("no gradient reaches what is trained")


def whole_of(model: RoutedModel, tuning: Tuning, start: int = 0) -> WholePrompts:
    """Runs whole prompts, at the price of the model with the tuning in it."""
    with tuning.placed():
        flops = replace(measure(model.model, model.sites), attention=model.flops.attention)
    return WholePrompts(model.model, flops, start)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


@torch.no_grad()
def _filled(tuning: Tuning, found: Mapping[str, Tensor]) -> Tuning | None:
    """The tuning with what was learned; None if that is the model as it was."""
    if found.keys() <= {FLOPS, LOSSES}:
        return None
    for name, parameter in tuning.parameters.items():
        parameter.copy_(found[name])
    return tuning


@dataclass(frozen=True, eq=False)
class Tuned:
    """Answers with a tuning in the model, or plainly without one.

    Attributes:
        bench: that it was trained on.
        tuning: what was trained; None where it is no better than the model as it was.
        once: FLOPs of the training.
        parameters: how many were trained.
        losses: mean loss of the held-back references, as it was and after each epoch.
    """

    bench: Bench
    tuning: Tuning | None
    once: float
    parameters: int
    losses: tuple[float, ...]
    needs_label: bool = field(default=False, init=False)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of the model with what was trained."""
        plain = [replace(answer, once=self.once, parameters=self.parameters) for answer in self.bench.plain(questions)]
        if self.tuning is None:
            return plain
        with self.bench.model.lock:
            whole = whole_of(self.bench.model, self.tuning)
            with torch.no_grad(), self.tuning.placed() as opening:
                return rescored(plain, whole, self.bench.prompts(questions), opening, self.bench.batch_size)
