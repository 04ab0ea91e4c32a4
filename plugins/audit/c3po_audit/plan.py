"""What an audit tries within its budget: which interventions where, and of how many questions the label's own descent.

Costs are told beforehand, by FLOPs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from c3po_adaptive import Entry, Packed, RoutedModel, RoutingRule, State, Strategies, new_registry

from .interventions import ALONE, BANNED, EVERYONE, NEXT, PERMUTED, UNIFORM, At, lacking, mixed_by
from .records import Where

BUDGET = 12.0
"""Base forwards a question that an audit takes at most, on average, beside its expected gain; ``deep`` knows none."""
HEADROOM = 3.0
"""Of these what is kept for the label's own descent."""
FEWEST = 2
"""Questions without which there is no interval."""
FEW = 10
"""Questions, of which fewer say nothing of what re-mixing could reach."""
WHERE: tuple[Where, ...] = ("all tokens", "answers")
FIVE, ALL = "last five layers, top 20", "all layers"
OURS = new_registry(installed=False)
"""Strategies of the package itself, by name."""
NGD, FIXED = OURS.create("optimizer", "ngd"), OURS.create("selector", "fixed")
USUAL_RATES: Mapping[float, str] = {NGD.lr: "ngd", 0.1: "10 × ngd"}
"""Learning rates that are tried by default, and whose they are."""


@dataclass(frozen=True)
class Trial:
    """An intervention somewhere; ``position``: in this MoE layer (0 … L-1) alone, None: in all."""

    intervention: str
    where: Where
    position: int | None = None

    @property
    def name(self) -> str:
        """Under which its scores stand in a row."""
        return f"{self.intervention}, {self.where}" + ("" if self.position is None else f", {self.position}")

    def rule(self, rules: Mapping[str, RoutingRule]) -> RoutingRule:
        """What is asked at each layer."""
        rule = rules[self.intervention]
        return rule if self.position is None else At(self.position, rule)


@dataclass(frozen=True)
class LabelDescent:
    """The label's own loss descended at a rate, within what a selector chooses."""

    rate: float
    selector: str

    @property
    def name(self) -> str:
        """Under which its scores stand in a row."""
        return f"{self.rate:g}, {self.selector}"

    @property
    def of(self) -> str:
        """Whose usual rate it is."""
        return USUAL_RATES.get(self.rate, "")

    def fixed(self, model: RoutedModel) -> Any:
        """What may change: the paper's, or everything."""
        if self.selector == ALL:
            return OURS.create("selector", {"name": "fixed", "layers": "all", "experts": None})
        return OURS.create("selector", {"name": "fixed", "experts": min(FIXED.experts or 0, model.n_experts)})

    def strategies(self, model: RoutedModel) -> Strategies:
        """Its re-mixing; what weighs neighbours is not asked."""
        descent = {"name": "ngd", "lr": self.rate, "lr_end": min(self.rate, NGD.lr_end)}
        oracle = {"name": "oracle", "of": descent}
        return OURS.strategies(
            {"optimizer": oracle, "kernel": "gaussian", "retriever": "faiss-knn", "selector": self.fixed(model)}
        )


@dataclass(frozen=True)
class AuditPlan:
    """What is tried.

    Attributes:
        trials: of every question.
        descents: of the first ``descended`` ones.
        descended: how many.
        bans: whether they can be had.
        exact: whether they are carried out, one by one.
        left_out: why something is not tried, by its name.
    """

    trials: tuple[Trial, ...]
    descents: tuple[LabelDescent, ...]
    descended: int
    bans: bool
    exact: bool
    left_out: Mapping[str, str] = field(default_factory=dict)


def make_plan(
    model: RoutedModel,
    rules: Mapping[str, RoutingRule],
    state: State,
    tails: Sequence[Packed],
    rates: Sequence[float],
    *,
    deep: bool,
) -> AuditPlan:
    """What is tried.

    What does not fit into the budget is left out; the oracle is asked of as many questions as fit.

    Args:
        model: the frozen model.
        rules: of the interventions.
        state: any prefilled question.
        tails: of all questions, those first of which the label's loss is descended.
        rates: learning rates of these descents.
        deep: without a budget.
    """
    left_out = lacking(model, rules, state)
    bans = BANNED not in left_out
    told = _Forecast(model, tails)
    spent = 1.0 + (told.bans() if bans else 0.0)
    trials: list[Trial] = []
    for group in _groups(len(model.sites), deep=deep):
        wanted = [trial for trial in group if trial.intervention not in left_out]
        costs = [told.trial(trial) for trial in wanted]
        room = float("inf") if deep else BUDGET - HEADROOM - spent
        step = next((n for n in range(1, len(wanted) + 1) if sum(costs[::n]) <= room), len(wanted) + 1)
        trials += wanted[::step] if step <= len(wanted) else []
        spent += sum(costs[::step]) if step <= len(wanted) else 0.0
        if wanted and step > 1:
            name = wanted[0].name if len(wanted) == 1 else f"{wanted[0].intervention}, {wanted[0].where}, each layer"
            kept = "" if step > len(wanted) else f"; every {step}th layer was"
            left_out[name] = (
                f"{sum(costs):.1f} base forwards a question do not fit into {BUDGET:g}{kept}; --deep tries it"
            )
    selectors = (FIVE, ALL) if len(model.sites) > FIXED.n else (ALL,)
    if FIVE not in selectors:
        left_out[FIVE] = f"the model has {len(model.sites)} MoE layers"
    descents = tuple(LabelDescent(rate, selector) for rate in rates for selector in selectors)
    totals = [1.0 + sum(each) for each in zip(*map(told.descent, descents), strict=True)]
    left = float("inf") if deep else (BUDGET - spent) * len(tails)
    descended = sum(total <= left for total in accumulate(totals))
    if descended < (FEWEST if deep else FEW):
        left_out["headroom"] = (
            f"{sum(totals) / max(1, len(totals)):.0f} base forwards a question leave room for {descended} of "
            f"{len(tails)}, too few to say what re-mixing could reach; --deep tries all"
        )
        descents, descended = (), 0
    return AuditPlan(tuple(trials), descents, descended, bans, deep, left_out)


def _groups(layers: int, *, deep: bool) -> Iterator[list[Trial]]:
    """What is tried together or not at all, what matters most first."""
    yield [Trial(PERMUTED, "all tokens")]
    yield [Trial(PERMUTED, "answers")]
    others = (NEXT, UNIFORM, ALONE, EVERYONE)  # the last one runs all experts
    yield from ([Trial(name, where)] for where in WHERE for name in others[:3])
    yield [Trial(PERMUTED, "answers", position) for position in range(layers)]
    yield from ([Trial(EVERYONE, where)] for where in reversed(WHERE))
    if deep:
        yield [Trial(PERMUTED, "all tokens", position) for position in range(layers)]
        for name in others:
            yield [Trial(name, where, p) for where in WHERE for p in range(layers)]


@dataclass(frozen=True, eq=False)
class _Forecast:
    """Costs of questions in base forwards, mean ones where nothing else is said, before anything is run."""

    model: RoutedModel
    tails: Sequence[Packed]

    def trial(self, trial: Trial) -> float:
        used = self._mixed(trial.intervention, trial.position)
        flops, start = self.model.flops, trial.position or 0
        if trial.where == "all tokens":
            return self._mean(lambda p: flops.prefill(p, _pairs(used, p.past + p.rows)))
        return self._mean(lambda p: flops.tail(p, start, _pairs(used, p.rows), backward=False))

    def bans(self) -> float:
        used = {position: k + 1 for position, k in self._mixed("", None).items()}
        return self._mean(lambda p: self.model.flops.tail(p, 0, _pairs(used, p.rows), backward=True))

    def descent(self, descent: LabelDescent) -> list[float]:
        """Of each question."""
        fixed, flops, layers = descent.fixed(self.model), self.model.flops, len(self.model.sites)
        start = 0 if descent.selector == ALL else layers - fixed.n
        # the selected experts beside the own ones, of which most are selected
        used = self._mixed("", None) | dict.fromkeys(range(start, layers), fixed.experts or self.model.n_experts)
        steps = self._each(lambda p: flops.tail(p, start, _pairs(used, p.rows), backward=True))
        answer = self._each(lambda p: flops.tail(p, start, _pairs(used, p.rows), backward=False))
        return [NGD.steps * a + b for a, b in zip(steps, answer, strict=True)]

    def _mixed(self, intervention: str, position: int | None) -> dict[int, int]:
        own, new = mixed_by("", self.model), mixed_by(intervention, self.model)
        return new if position is None else own | {position: new[position]}

    def _mean(self, work: Callable[[Packed], Entry]) -> float:
        return sum(self._each(work)) / len(self.tails)

    def _each(self, work: Callable[[Packed], Entry]) -> list[float]:
        return [work(tail).flops / base for tail, base in zip(self.tails, self._base, strict=True)]

    @cached_property
    def _base(self) -> list[float]:
        return [self.model.flops.prefill(tail).flops for tail in self.tails]


def _pairs(used: Mapping[int, int], rows: int) -> dict[int, float]:
    return {position: float(rows * n) for position, n in used.items()}
