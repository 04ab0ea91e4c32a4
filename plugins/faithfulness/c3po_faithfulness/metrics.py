"""How near a score comes to the truth, and Captum's own tests of an attribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from c3po_adaptive import Attribution, Problem

Floats = NDArray[np.float64]
RADIUS = 0.01  # how far a routing weight is moved: the size of one step of NGD
SHARE = 0.2  # of its way to the baseline that a layer is moved at most


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


def places(scores: Floats) -> Floats:
    """``[N, L]`` share of the other layers that a layer's score is above; equal ones count for half."""
    from scipy.stats import rankdata

    found: Floats = (rankdata(scores, axis=1) - 1) / (scores.shape[1] - 1)
    return found


def separation(scores: Floats, marked: NDArray[np.bool_]) -> Floats:
    """``[N]`` chance that a layer ``marked [L]`` has a higher score of ``[N, L]`` than one that is not (the area under
    the ROC curve): 1/2 by chance, or where the score does not tell layers apart."""
    from scipy.stats import rankdata

    ranks, count = rankdata(scores, axis=1), int(marked.sum())
    found: Floats = (ranks[:, marked].mean(1) - (count + 1) / 2) / (len(marked) - count)
    return found


def infidelity(problem: Problem, selector: Attribution, samples: int, seed: int) -> Tensor:
    """``[B]`` how badly an attribution predicts what a move does to f: 0 in full, 1 as badly as predicting nothing.

    Expected squared gap between effect and prediction (Yeh et al. 2019, by Captum) over the expected squared effect. A
    move takes every layer a random share (up to ``SHARE``) of its way to the baseline of the method, or to zero where
    it has none: each method has something to say about that, whether it attributes to weights or to whole layers.
    """
    function, found = selector.function(problem), selector.attribute(problem).values
    baseline = selector.beside(problem)

    def gap(values: Tensor) -> Tensor:
        from captum.metrics import infidelity as captum_infidelity

        generator = torch.Generator().manual_seed(seed)

        def moved(inputs: Tensor, baselines: Tensor) -> tuple[Tensor, Tensor]:
            share = SHARE * torch.rand(*inputs.shape[:2], 1, generator=generator)
            step = share * (inputs - baselines)
            # saliency speaks of a step, all others of a share of the way
            return (step if selector.method == "saliency" else share.expand_as(step)), inputs - step

        with torch.no_grad():
            value: Tensor = captum_infidelity(
                function,
                moved,
                problem.own,
                values,
                baselines=baseline,
                additional_forward_args=(torch.arange(len(problem.own)),),
                n_perturb_samples=samples,
                max_examples_per_batch=len(problem.own),  # one move of each sample at a time
            )
        return value

    return gap(found) / gap(torch.zeros_like(found)).clamp_min(1e-12)


def sensitivity(problem: Problem, selector: Attribution, samples: int, seed: int) -> Tensor:
    """``[B]`` largest relative change of an attribution as the pathway moves a little (Yeh et al. 2019, by Captum)."""
    from captum.metrics import sensitivity_max

    generator = torch.Generator().manual_seed(seed)
    moved = problem.changeable(problem.core(selector.experts))

    def perturbed(inputs: Tensor, radius: float) -> Tensor:
        noise = radius * (2 * torch.rand(inputs.shape, generator=generator) - 1)
        return (inputs + noise * moved).clamp_min(0)

    def explained(inputs: Any, **_: Any) -> tuple[Tensor, ...]:
        return (selector.attribute(problem, inputs[0] if isinstance(inputs, tuple) else inputs).values,)

    value: Tensor = sensitivity_max(
        explained, problem.own, perturbed, RADIUS, samples, max_examples_per_batch=len(problem.own)
    )
    return value
