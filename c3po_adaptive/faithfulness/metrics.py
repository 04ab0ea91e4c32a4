"""How near a score comes to the truth, and Captum's own tests of an attribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..attribution import PathwayFunction, baseline_pathway
from ..problem import Problem
from ..routing.mixing import core
from ..selectors.attribution import Attribution

Floats = NDArray[np.float64]
RADIUS = 0.01  # how far a routing weight is moved: the size of one step of NGD


def rank_correlation(scores: Floats, truth: Floats) -> Floats:
    """``[N]`` Spearman's between rows of ``[N, L]``, 0 where one of them does not tell layers apart."""
    from scipy.stats import rankdata

    a, b = (rankdata(x, axis=1) - (x.shape[1] + 1) / 2 for x in (scores, truth))
    length = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    found: Floats = np.divide((a * b).sum(1), length, out=np.zeros(len(a)), where=length > 0)
    return found


def overlap(scores: Floats, other: Floats, n: int) -> Floats:
    """``[N]`` share of the n best by ``scores [N, L]`` among the n best by ``other``; n/L by chance."""
    best = [np.argsort(-x, axis=1, kind="stable")[:, :n] for x in (scores, other)]
    found: Floats = np.array([len(set(a) & set(b)) / n for a, b in zip(*best, strict=True)])
    return found


def infidelity(problem: Problem, selector: Attribution, samples: int, seed: int) -> Tensor:
    """``[B]`` expected squared gap between what an attribution foretells of a random move of the core experts' weights,
    and what that does to f (Yeh et al. 2019, by Captum). A method that multiplies by the way from a baseline foretells
    for a move its share of that way.
    """
    from captum.metrics import infidelity as captum_infidelity
    from captum.metrics import infidelity_perturb_func_decorator

    moved, generator = _movable(problem, selector.experts), torch.Generator().manual_seed(seed)
    without = selector.method in ("saliency", "input-x-gradient")
    baseline = torch.zeros_like(problem.own)
    if not without:
        baseline = baseline_pathway(problem, selector.baseline, selector.experts)

    @infidelity_perturb_func_decorator(selector.method != "saliency")  # type: ignore[untyped-decorator]
    def perturbed(inputs: Tensor, baselines: Tensor | None = None) -> Tensor:
        return (inputs - RADIUS * torch.randn(inputs.shape, generator=generator) * moved).clamp_min(0)

    with torch.no_grad():
        value: Tensor = captum_infidelity(
            PathwayFunction(problem, selector.target),
            perturbed,
            problem.own,
            selector.attribute(problem).values,
            baselines=baseline,
            additional_forward_args=(torch.arange(len(problem.own)),),
            n_perturb_samples=samples,
            max_examples_per_batch=len(problem.own),  # one move of each sample at a time
        )
    return value


def sensitivity(problem: Problem, selector: Attribution, samples: int, seed: int) -> Tensor:
    """``[B]`` largest relative change of an attribution as the pathway moves a little (Yeh et al. 2019, by Captum)."""
    from captum.metrics import sensitivity_max

    moved, generator = _movable(problem, selector.experts), torch.Generator().manual_seed(seed)

    def perturbed(inputs: Tensor, radius: float = RADIUS) -> Tensor:
        noise = radius * (2 * torch.rand(inputs.shape, generator=generator) - 1)
        return (inputs + noise * moved).clamp_min(0)

    def explained(inputs: Any, **_: Any) -> tuple[Tensor, ...]:
        return (selector.attribute(problem, inputs[0] if isinstance(inputs, tuple) else inputs).values,)

    value: Tensor = sensitivity_max(
        explained, problem.own, perturbed, n_perturb_samples=samples, max_examples_per_batch=len(problem.own)
    )
    return value


def _movable(problem: Problem, experts: int) -> Tensor:
    return core(problem.ranking, experts) | (problem.own > 0)
