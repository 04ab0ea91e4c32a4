"""Whether to re-mix a sample at all: ``abstain``, a wrapper around any selector.

Tried on the carved model (``docs/explanation/results.md``), and found to gain nothing: it spoils 20 answers, not 43, of
899, and repairs 33, not 59 (on test −0.7 points [−1.4, 0.1] beside re-mixing all).

Try it: ``c3po demo --arm abstain``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import torch
from pydantic import Field, FiniteFloat, InstanceOf
from torch import Tensor

from c3po_adaptive import (
    LabeledProblem,
    LayerSelector,
    PathwayOptimizer,
    Problem,
    Selection,
    SettingError,
    TrainingReferences,
    as_part_says,
    default_registry,
    hookimpl,
)

from ._signals import agreement, similarity, uncertainty

Signal = Literal["uncertainty", "similarity", "agreement", "benefit", "decrease"]
"""What speaks for re-mixing: the model is unsure of its choices; the neighbours are near; their pathways agree; the
wrapped selector predicts much benefit (its ``strength``, or else its scores of the chosen layers); the first step
lowers the neighbours' loss by much."""

KNOWN_BEFORE = ("uncertainty", "similarity", "agreement")  # layers are chosen
FEWEST = 50  # references that a threshold can be calibrated on


def _fixed() -> LayerSelector:
    made: LayerSelector = default_registry().create("selector", "fixed")
    return made


@dataclass(frozen=True, kw_only=True)
class Abstain(LayerSelector):
    """Leaves a sample alone where its signal is not above a threshold: at the cost of one forward pass for the signals
    that are known before layers are chosen; ``benefit`` and ``decrease`` cost the choice, too.

    The threshold is calibrated on references, each without itself among its neighbours: those that the model answers
    right by itself can only lose, the others only win. Of all thresholds it takes the one with the most answers right;
    of several the highest, so that in doubt nothing is re-mixed. Then ``harm`` bounds, if given, the share of questions
    that go from right to wrong, in expectation over references and questions that are exchangeable (conformal risk
    control, Angelopoulos et al. 2022, arXiv 2208.02814).

    Attributes:
        selector: chooses layers and experts.
        signal: see ``Signal``.
        threshold: what the signal must exceed; None to calibrate it.
        training: references to calibrate on.
        harm: the bound; None: no bound.
    """

    selector: InstanceOf[LayerSelector] = field(default_factory=_fixed)
    signal: Signal = "uncertainty"
    threshold: FiniteFloat | None = None
    training: Annotated[int, Field(ge=FEWEST, description=f"a calibration needs {FEWEST} references at least")] = 256
    harm: Annotated[float, Field(gt=0, le=1)] | None = None
    learned: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "abstain"
    needs_label = as_part_says("needs_label", "selector")
    needs_truth = as_part_says("needs_truth", "selector")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None and self.harm is not None:
            raise SettingError("Expected a threshold, or a bound on harm to calibrate it by, got both; leave one out.")
        if self.harm is not None:
            needed = math.ceil(1 / self.harm) - 1  # with fewer even no loss at all proves too little
            if self.training < needed:
                raise SettingError(
                    f"Expected training of at least {needed} references for harm={self.harm:g}, got {self.training}; "
                    "train on more, or allow more harm."
                )

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        self.selector.fits(layers, experts)

    @property
    def needs_neighbours(self) -> bool:  # type: ignore[override]  # a constant of most selectors
        return self.selector.needs_neighbours or self.signal != "uncertainty" or self.threshold is None

    @property
    def references_needed(self) -> int:
        return self.selector.references_needed + (self.training if self.threshold is None else 0)

    def prepare(self, training: TrainingReferences) -> Self:
        prepared = replace(self, selector=self.selector.prepare(training))
        if self.threshold is not None:
            return prepared
        return replace(prepared, learned=training.once(self, lambda: prepared._calibrate(training)))

    def select(self, problem: Problem) -> Selection:
        threshold = self.threshold if self.learned is None else self.learned["threshold"].item()
        if threshold is None:
            raise SettingError("abstain expected references to calibrate on first; use it through Optimizer or a run.")
        if self.signal in KNOWN_BEFORE:
            strength = self.strength(problem, None)
            selection = self.selector.select(only(problem, strength > threshold))
        else:
            selection = self.selector.select(problem)
            strength = self.strength(problem, selection)
        mask = selection.mask & (strength > threshold)[:, None, None]
        return replace(selection, mask=mask, strength=strength, threshold=threshold)

    def strength(self, problem: Problem, selection: Selection | None) -> Tensor:
        """``[B]`` of the signal.

        Raises:
            SettingError: the wrapped selector has no scores, and they are asked for.
        """
        return _SIGNALS[self.signal](problem, cast(Selection, selection))

    def _calibrate(self, training: TrainingReferences) -> dict[str, Tensor]:
        strength, gain = [], []
        others = self.selector.references_needed  # they would flatter the wrapped one
        for problem in training.problems(self.training, skip=others):
            selection = self.selector.select(problem if self.needs_label else problem.unlabeled())
            inside = problem.within(selection)
            after = problem.answered(_remixed(training.optimizer, inside)) == problem.answers
            before = problem.own_scores.argmax(-1) == problem.answers
            strength.append(self.strength(problem.unlabeled(), selection))
            gain.append(after.long() - before.long())
        return {"threshold": torch.tensor(calibrated(torch.cat(strength), torch.cat(gain), self.harm))}


def _remixed(optimizer: PathwayOptimizer, problem: Problem) -> Tensor:
    """The optimizer's ω ``[B, L, E]``; one that is no upper bound does not get to see the labels."""
    if isinstance(problem, LabeledProblem) and not optimizer.needs_label:
        problem = problem.unlabeled()
    return optimizer.optimize(problem).detach()


def calibrated(strength: Tensor, gain: Tensor, harm: float | None) -> float:
    """The threshold above which re-mixing wins most.

    Args:
        strength: ``[N]`` of the signal.
        gain: ``[N]`` 1 from wrong to right, -1 from right to wrong, else 0.
        harm: bound on the expected share that goes from right to wrong.
    """
    ends = torch.tensor([-torch.inf]), torch.tensor([torch.inf])
    thresholds = torch.cat([ends[0], strength.unique(), ends[1]]).flip(0)
    going = strength > thresholds[:, None]
    won, lost = (going & (gain > 0)).sum(1), (going & (gain < 0)).sum(1)
    within = torch.ones_like(won, dtype=torch.bool)
    if harm is not None:
        within = (lost + 1) / (len(strength) + 1) <= harm  # no loss exceeds one
        within = within.long().cumprod(0).bool()
        within[0] = True  # nothing re-mixed does no harm
    net = (won - lost).masked_fill(~within, -len(strength))
    return float(thresholds[int(net.argmax())])  # the first of equals: the highest


def only(problem: Problem, going: Tensor) -> Problem:
    """The same problem, in whose losses nothing is run for samples that are not ``going [B]``."""

    def cut(run: Any) -> Any:
        def loss(weights: Tensor, running: Tensor | None = None) -> Tensor:
            found: Tensor = run(weights, going if running is None else going & running)
            return found

        return loss

    def within(selection: Selection) -> Problem:
        return only(problem.within(selection), going)

    changed: dict[str, Any] = {"loss": cut(problem.loss), "scores": cut(problem.scores), "within": within}
    if isinstance(problem, LabeledProblem):
        changed["label_loss"] = cut(problem.label_loss)
    return replace(problem, **changed)


def _benefit(problem: Problem, selection: Selection) -> Tensor:
    if selection.strength is not None:
        return selection.strength
    if selection.scores is None:
        raise SettingError(
            "Expected abstain to wrap a selector with scores for the signal benefit, got one without; set its "
            "selector, to gradient for example."
        )
    return (selection.scores * selection.layers).sum(-1)


def _decrease(problem: Problem, selection: Selection) -> Tensor:
    inside = problem.within(selection)
    with torch.no_grad():
        before = inside.loss(problem.own)
    first = default_registry().create("optimizer", {"name": "ngd", "steps": 1}).optimize(inside)
    with torch.no_grad():
        after = inside.loss(first)
    return before - after  # no share of the loss, which may be zero or negative


_SIGNALS: dict[str, Callable[[Problem, Selection], Tensor]] = {
    "uncertainty": lambda problem, selection: uncertainty(problem),
    "similarity": lambda problem, selection: similarity(problem),
    "agreement": lambda problem, selection: agreement(problem).mean(-1),
    "benefit": _benefit,
    "decrease": _decrease,
}


@hookimpl
def register_layer_selectors() -> list[type[LayerSelector]]:
    return [Abstain]
