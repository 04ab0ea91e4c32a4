"""Answerers that train something in a frozen model on labeled references, keep it beside them, and answer with it.

A ``Tuning`` is put into the model for each step and for each answer, and taken out again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from c3po_adaptive import (
    Answer,
    Answerer,
    AnswererStrategy,
    AnsweringContext,
    C3POError,
    ModelError,
    NotFinite,
    Prompt,
    Question,
    SettingError,
    bar,
    right_answer_loss,
)

if TYPE_CHECKING:
    from c3po_adaptive import PromptPrefix, RoutedModel, Strategies, WholePrompts

HELD_BACK = 0.2
STEEPEST = 1.0  # norm that gradients are clipped to
Layers = Literal["all", "last-five"] | Annotated[tuple[int, ...], Field(min_length=1)]
FLOPS, LOSSES = "flops", "held-back losses"  # kept beside what was learned


@dataclass(frozen=True, eq=False)
class Tuning:
    """What is trained in a frozen model, and how it is put there.

    Attributes:
        parameters: in float32, by name.
        placed: the model with them inside the block; gives what prompts begin with.
        layer: the first decoder layer that they act in.
        weights: how many of them every token is multiplied with.
    """

    parameters: dict[str, nn.Parameter]
    placed: Callable[[], AbstractContextManager[PromptPrefix]]
    layer: int = 0
    weights: int = 0


@dataclass(frozen=True)
class Labeled:
    """A reference to learn from: its prompt, its right choice, and the question itself."""

    prompt: Prompt
    answer: int
    question: Question


class Lesson(Protocol):
    """What the steps of a training lower."""

    def __call__(self, part: Sequence[Labeled], step: int) -> tuple[Tensor, float]:
        """The loss of a step (0, 1, …), to be differentiated in what is trained; and the FLOPs of both."""


@dataclass(frozen=True, kw_only=True)
class Trained(AnswererStrategy):
    """Learns from all labeled references but a fifth, which is held back; a subclass says what is trained.

    AdamW lowers the loss that the settings say, or what another ``lesson`` gives. It stops when ``patience`` epochs
    have not lowered the held-back references' loss, keeps the best epoch, and where that is no better than the model as
    it was, the model as it was: then all answers are plain ones. What is learned is kept beside the reference set.

    ``Answer.setup_flops`` counts every forward pass in full, and every backward pass as one more product with each
    weight that gradients pass, two with each attention product, and one with each weight that is trained. References'
    own pathways, which the set holds, are not needed and not counted.

    Attributes:
        epochs: passes over the references, at most.
        lr: learning rate.
        batch: references a step.
        patience: epochs without progress after which it stops.
        decay: AdamW's weight decay.
        code: functions and classes beside the strategy's own that decide what is learned.
    """

    epochs: PositiveInt = 4
    lr: PositiveFloat = 1e-3
    batch: PositiveInt = 8
    patience: PositiveInt = 1
    uses_peft: ClassVar[bool] = True
    likelihoods: ClassVar[bool] = True

    @abstractmethod
    def tuning(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tuning:
        """What is trained, as it is before it is; torch's global generator may be drawn from.

        Raises:
            SettingError: a parameter that does not fit the model.
            ModelError: the model's family has nothing of the kind.
        """

    @property
    def decay(self) -> float:
        return 0.0

    @property
    def code(self) -> tuple[Any, ...]:
        return ()

    def rate(self, step: int) -> float:
        """The share of ``lr`` that a step (0, 1, …) takes."""
        return 1.0

    def lesson(self, training: Training) -> Lesson:
        """What steps lower, called with the model as it was."""
        return training.step

    def prepare(self, context: AnsweringContext) -> Answerer:
        """The answerer, once it has learned.

        Raises:
            SettingError: too few references, or PEFT is not installed.
            DataError: they are of another model, format or embedder; or what was kept of an earlier training is.
            ModelError: the model's family cannot be trained like that.
        """
        from c3po_adaptive import WholePrompts

        self._check_peft()
        known = _labeled(context, self.name)
        self.check_count(len(known))
        order = torch.randperm(len(known), generator=_generator(context)).tolist()
        known, count = [known[i] for i in order], max(1, round(HELD_BACK * len(known)))
        held_back, learned_from = known[:count], known[count:]
        with context.model.answering(), context.model.unchanged():
            with torch.random.fork_rng(devices=[]), _refused(self, context.model):
                torch.manual_seed(context.settings.seed)
                tuning = self.tuning(context.model, [one.prompt for one in learned_from])
            training = Training(self, context, tuning, learned_from, held_back)
            code, packages = (right_answer_loss, WholePrompts, *self.code), ("peft",) if self.uses_peft else ()
            found = context.learned_once(self, training.run, *code, packages=packages)
        count, losses = sum(p.numel() for p in tuning.parameters.values()), tuple(found[LOSSES].tolist())
        return Tuned(context, _filled(tuning, found), float(found[FLOPS]), count, losses)

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        self._check_peft()
        self.check_count(references)

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ("loss", "labels", "seed")

    def _check_peft(self) -> None:
        if self.uses_peft and find_spec("peft") is None:
            raise SettingError(
                f"{self.name} expected the package peft, which is not installed: pip install 'c3po_adaptive[tuning]'."
            )


@dataclass(frozen=True, kw_only=True)
class LayersTrained(Trained):
    """Trains some of a model's layers.

    Attributes:
        layers: which: all, the last five, or a list; those below are run once.
    """

    layers: Layers = "all"

    def __post_init__(self) -> None:
        if isinstance(self.layers, list):  # what YAML gives
            object.__setattr__(self, "layers", tuple(self.layers))
        super().__post_init__()

    def chosen(self, known: tuple[int, ...], what: str) -> tuple[int, ...]:
        """Those that ``layers`` means among the ``known`` ones, which are called ``what``.

        Raises:
            SettingError: a number that is none of them.
        """
        if isinstance(self.layers, tuple):
            if missing := sorted(set(self.layers) - set(known)):
                raise SettingError(f"Expected layers among the {what} {known}, got {missing}.")
            return tuple(sorted(set(self.layers)))
        return known if self.layers == "all" else known[-5:]


def _labeled(context: AnsweringContext, name: str) -> list[Labeled]:
    """The references that are not asked, answered right and wrong, with the labels that the settings say."""
    known = context.references_for(name).labeled_by(context.settings).questions
    pairs = zip(context.prompts(known), known, strict=True)
    return [Labeled(prompt, one.answer, one) for prompt, one in pairs if one.answer is not None]


def _generator(context: AnsweringContext) -> torch.Generator:
    return torch.Generator().manual_seed(context.settings.seed)


@contextmanager
def _refused(strategy: Trained, model: RoutedModel) -> Iterator[None]:
    """What fails inside, in PEFT or in the model's own code, is that family's, unless it is memory."""
    from accelerate.utils.memory import should_reduce_batch_size

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
class Training:
    """One training.

    Attributes:
        strategy: what trains.
        context: what it may use.
        tuning: what is trained.
        learned_from: by steps.
        held_back: by whose loss an epoch is kept.
    """

    strategy: Trained
    context: AnsweringContext
    tuning: Tuning
    learned_from: list[Labeled]
    held_back: list[Labeled]

    @cached_property
    def whole(self) -> WholePrompts:
        """Runs the model from the first layer on that the tuning acts in."""
        model = self.context.model
        with self.tuning.placed():
            return model.whole_prompts(self.tuning.layer if model.sites[0].entered else 0)

    def run(self) -> dict[str, Tensor]:
        """The best epoch's parameters, or none where the model as it was is better; with FLOPs and held-back losses.

        Raises:
            ModelError: gradients do not reach what is trained, or the loss is no number any more.
        """
        with _refused(self.strategy, self.context.model), torch.enable_grad():
            self._try()
            plain = self._held_back_loss(plainly=True)
            try:
                return self._run(plain)
            except NotFinite as error:  # which it was not before the first step
                raise ModelError(
                    f"{self.strategy.name} expected a finite loss while training, got NaN or infinity; lower lr, or "
                    "load the model in float32."
                ) from error

    def _run(self, plain: float) -> dict[str, Tensor]:
        losses, best, left = [plain], float("inf"), self.strategy.patience
        found: dict[str, Tensor] = {}
        known = [*self.learned_from, *self.held_back]
        work = sum(self.whole.work_once(one.prompt).flops for one in known) + self.work(self.held_back)
        parameters, lesson = list(self.tuning.parameters.values()), self.strategy.lesson(self)
        optimizer = torch.optim.AdamW(parameters, lr=self.strategy.lr, weight_decay=self.strategy.decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.strategy.rate)
        for step, (part, ends) in enumerate(self._batches()):
            optimizer.zero_grad()
            loss, taken = lesson(part, step)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, STEEPEST)
            optimizer.step()
            schedule.step()
            work += taken
            if not ends:
                continue
            losses.append(self._held_back_loss())
            work += self.work(self.held_back)
            left -= 1
            if losses[-1] < best:
                best, left = losses[-1], self.strategy.patience
                found = {name: p.detach().clone() for name, p in self.tuning.parameters.items()}
            if left == 0:
                break
        kept = found if best < losses[0] else {}
        return kept | {FLOPS: torch.tensor(work, dtype=torch.float64), LOSSES: torch.tensor(losses)}

    def step(self, part: Sequence[Labeled], step: int) -> tuple[Tensor, float]:
        """The loss that the settings say, as a ``Lesson``."""
        return self.loss(part), self.work(part, self.tuning.weights)

    def work(self, examples: Sequence[Labeled], trained: int | None = None) -> float:
        """FLOPs of scoring them, without what is computed once; with the backward pass to so many weights."""
        with self.tuning.placed() as opening:
            return sum(self.whole.work(one.prompt, opening, trained).flops for one in examples)

    def _batches(self) -> Iterator[tuple[list[Labeled], bool]]:
        """The references of each step, and whether an epoch ends with them."""
        generator, count, size = _generator(self.context), len(self.learned_from), self.strategy.batch
        parts = [
            ([self.learned_from[j] for j in order[i : i + size]], i + size >= count)
            for order in (torch.randperm(count, generator=generator).tolist() for _ in range(self.strategy.epochs))
            for i in range(0, count, size)
        ]
        yield from bar(parts, f"{self.strategy.name}: learning from {count} references")

    def loss(self, examples: Sequence[Labeled], *, plainly: bool = False) -> Tensor:
        """Their mean, with the tuning in the model, or along the model as it is."""
        prompts = [one.prompt for one in examples]
        if plainly:
            return self._lost(examples, self.whole.scores(prompts))
        with self.tuning.placed() as opening:
            return self._lost(examples, self.whole.scores(prompts, opening))

    def routed(self, examples: Sequence[Labeled], layers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """``loss``, and of the same run what the routers of n decoder layers, none below what is trained, make of every
        expert at each prompt's last token ``[B, n, E]``."""
        with self.tuning.placed() as opening:
            scores, routers = self.whole.routed_scores([one.prompt for one in examples], layers, opening)
        return self._lost(examples, scores), routers

    def _lost(self, examples: Sequence[Labeled], scores: Tensor) -> Tensor:
        """The mean loss that the settings say, of scores ``[B, C]``."""
        answers = torch.tensor([one.answer for one in examples])
        loss = right_answer_loss(scores, answers, self.context.settings.loss).mean()
        if not loss.isfinite():
            raise NotFinite.of("loss", loss)
        return loss

    @torch.no_grad()
    def _held_back_loss(self, *, plainly: bool = False) -> float:
        size = self.context.batch_size
        parts = [self.held_back[i : i + size] for i in range(0, len(self.held_back), size)]
        return sum(self.loss(part, plainly=plainly).item() * len(part) for part in parts) / len(self.held_back)

    def _try(self) -> None:
        """Raises whatever the family does not support."""
        loss, parameters = self.loss(self.learned_from[:1]), list(self.tuning.parameters.values())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True) if loss.requires_grad else ()
        if not any(g is not None and g.any() for g in gradients):
            raise RuntimeError("no gradient reaches what is trained")


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
        context: that it was trained on.
        tuning: what was trained; None where it is no better than the model as it was.
        setup_flops: FLOPs of the training.
        parameters: how many were trained.
        losses: mean loss of the held-back references, as it was and after each epoch.
    """

    context: AnsweringContext
    tuning: Tuning | None
    setup_flops: float
    parameters: int
    losses: tuple[float, ...]
    needs_label: bool = field(default=False, init=False)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of the model with what was trained."""
        plain = [
            replace(answer, setup_flops=self.setup_flops, parameters=self.parameters)
            for answer in self.context.plain(questions)
        ]
        if self.tuning is None:
            return plain
        with self.context.model.answering(), torch.no_grad(), self.tuning.placed() as opening:
            return self.context.rescored(plain, questions, self.context.model.whole_prompts(), opening)
