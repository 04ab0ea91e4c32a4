"""Attribution of a batch, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast, get_args

import torch
from torch import Tensor

from ..errors import SettingError, ShapeError, suggestion
from ..problem import Loss, Problem
from ..routing.mixing import CORE, core, core_size
from ..types import Attributable, Selection
from .attributed import Attributed
from .baselines import Baseline, baseline_pathway
from .choices import PlaceOrText, is_named, likelihood_of
from .function import PathwayFunction
from .methods import METHODS, Task, method_name
from .weight_groups import Groups, grouped, how_many, shared


def attribute(
    problem: Problem,
    method: str = "input-x-gradient",
    *,
    of: Attributable | PlaceOrText | Sequence[PlaceOrText] | Callable[[Problem], Loss] = "neighbours",
    baseline: Baseline | float | Tensor = "uniform",
    groups: Groups = "layer",
    experts: int | None = CORE,
    steps: int = 8,
    draws: int = 2,
    seed: int = 0,
    budget: int | None = None,
    omega: Tensor | None = None,
    delta: bool = False,
) -> Attributed:
    """Attribute f(Ω) to the weights of each sample's pathway, by one of Captum's methods.

    Routers in a row feed each other, so Captum's layer methods do not apply; Ω as one explicit input does.

    Args:
        problem: the batch of B samples.
        method: a name of ``METHODS``, or of Captum's class (``IntegratedGradients``).
        of: what is attributed: see ``Attributable``; or a choice, by its place or its text (one for all samples, or a
            list with one for each): its log-probability among its sample's choices; or any function of the problem
            that returns a ``Loss``.
        baseline: what ω is compared with: see ``Baseline``, or ``[B, L, E]`` of your own, or a number for all weights.
        groups: see ``Groups``.
        experts: core experts per layer, of the baseline ``uniform`` and of groups by expert; None: all.
        steps: of integrated gradients.
        draws: orders of groups (shapley-sampling); kernel-shap takes as many passes.
        seed: of what is drawn, the same for every sample.
        budget: tail passes per sample at most, a backward pass counting two; None: any number.
        omega: the pathways to attribute; default ω0.
        delta: also tell how far the values are from completeness, for two passes more.

    Raises:
        SettingError: no such name, or more passes than the budget.
        ShapeError: a baseline of the wrong shape.
    """
    if not isinstance(problem, Problem):
        raise SettingError(f"Expected a problem, as c3po.problem(…) makes it, got {type(problem).__name__}.")
    method = method_name(method)
    chosen = METHODS[method]
    check_use(method, baseline, groups)
    _, layers, count = problem.own.shape
    experts = core_size(experts, count)
    _check(problem, experts, omega, steps=steps, draws=draws, seed=seed)
    check_budget(budget, chosen.passes(how_many(groups, layers, count, experts), steps, draws), method)
    if is_named(of) and any(of in choices for choices in problem.choices):
        raise SettingError(
            f"Expected of to say one thing, got {of!r}, which is a choice, too; name the choice by place."
        )
    attributable = cast(Any, of) if callable(of) or is_named(of) else likelihood_of(problem, cast(Any, of))
    mixable = core(problem.ranking, experts)
    compared = baseline_pathway(problem, baseline, experts)
    integrated_over_router = method == "integrated-gradients" and problem.kind == "router"
    if integrated_over_router and (compared == 0).all(-1).any():
        raise SettingError(
            f"Expected a distribution of experts as baseline of {method}, got zeros: a layer that renormalizes mixes "
            "the same weights all the way there; take uniform or neighbours, or feature-ablation."
        )
    if chosen.unused and not integrated_over_router:  # there a gradient through the top-k would not add up
        problem = problem.within(Selection(mixable))
    function = PathwayFunction(problem, attributable)
    omega = problem.own if omega is None else omega
    task = Task(
        function,
        omega,
        compared,
        grouped(problem, groups, experts),
        steps,
        draws,
        seed,
    )
    with torch.enable_grad():
        values = chosen.run(task).detach()
    if chosen.unused and not chosen.complete:  # of other experts only the answer tokens' part of a gradient is known
        values = values * (mixable | problem.used | (omega != problem.own))
    if chosen.by_group:
        values = shared(values, task.groups)
    missing = _missing(task, values) if delta and chosen.complete else None
    return Attributed(
        values,
        function.passes,
        missing,
        method=method,
        of=_in_words(of) if callable(of) or is_named(of) else f"choice {_in_words(of)}",
        baseline=_in_words(baseline) if chosen.baseline else None,
        decoder_layers=problem.layers,
        by_layer=chosen.by_group and groups == "layer",
    )


def _in_words(value: Any) -> str:
    """What was attributed, or compared with."""
    if isinstance(value, Tensor):
        return "pathways of one's own"
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__))
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def check_use(method: str, baseline: Any, groups: Any) -> None:
    """Refuse settings that a method would not look at, so that nobody compares two of them.

    Raises:
        SettingError: no such groups, or groups or a baseline other than the default where there is no use for them.
    """
    chosen = METHODS[method]
    if groups not in get_args(Groups):
        raise SettingError(f"Expected a kind of groups, got {groups!r}; {suggestion(str(groups), get_args(Groups))}")
    if groups != "layer" and not chosen.by_group:
        able = ", ".join(name for name, m in METHODS.items() if m.by_group)
        raise SettingError(f"Expected no groups for {method}, which has none, got {groups!r}; they are for {able}.")
    if not (isinstance(baseline, str) and baseline == "uniform") and not chosen.baseline:
        able = ", ".join(name for name, m in METHODS.items() if m.baseline)
        raise SettingError(f"Expected no baseline for {method}, which has none, got one; it is for {able}.")


def _check(problem: Problem, experts: int, omega: Tensor | None, **numbers: int) -> None:
    count = problem.own.shape[-1]
    if not isinstance(experts, int) or not 1 <= experts <= count:
        raise SettingError(f"Expected experts from 1 to {count}, all of a layer (or None), got {experts!r}.")
    for name, value in numbers.items():
        least = 0 if name == "seed" else 1
        if not isinstance(value, int) or value < least:
            raise SettingError(f"Expected {name} to be a whole number from {least} on, got {value!r}.")
    if omega is not None and omega.shape != problem.own.shape:
        raise ShapeError(
            f"Expected omega of shape (B, L, E) = {tuple(problem.own.shape)}, got {tuple(omega.shape)}; give one "
            "pathway for each sample."
        )


@torch.no_grad()
def _missing(task: Task, values: Tensor) -> Tensor:
    there, back = (task.function(w, task.samples) for w in (task.omega, task.baseline))
    return values.sum((1, 2)) - (there - back)


def check_budget(budget: Any, passes: int, method: str) -> None:
    """Refuse more tail passes than the budget.

    Raises:
        SettingError: more, or a budget below one pass.
    """
    if budget is not None and (not isinstance(budget, int) or budget < 1):
        raise SettingError(f"Expected a budget of at least one tail pass, got {budget!r}.")
    if budget is not None and passes > budget:
        raise SettingError(
            f"Expected at most budget={budget} tail passes, {method} takes {passes} here; raise it, or take fewer "
            "steps or draws, or another method (input-x-gradient and saliency take 3)."
        )
