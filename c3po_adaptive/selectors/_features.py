"""What can be known of a sample and its layers before anything is run: no tail pass, no label."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import SettingError
from ..losses import entropy, margin
from ..optimizers._reference_artifacts import GRADIENT
from ..problem import Problem
from ..routing.mixing import core, mass
from .disagreement import Disagreement
from .gradient import steepness

FEATURES = (
    "slope of the neighbours' gradients",
    "agreement of the neighbours' gradients",
    "disagreement with the neighbours' pathways",
    "entropy of the routing weights",
    "largest routing weight",
    "similarity of the neighbours",
    "entropy of the choices",
    "margin of the choices",
)


def features(problem: Problem, experts: int) -> Tensor:
    """``[B, L, F]``: those of ``FEATURES``, then one that marks the layer, for each of L."""
    layers = len(problem.layers)
    routing = problem.own / mass(problem.own).clamp_min(1e-12)
    each = [
        *_gradients(problem, experts),
        Disagreement().score(problem)[0],
        -(routing * routing.clamp_min(1e-12).log()).sum(-1),
        routing.amax(-1),
        *(x[:, None].expand(-1, layers) for x in (similarity(problem), uncertainty(problem), ahead(problem))),
    ]
    marks = torch.eye(layers).expand(len(problem.own), -1, -1)
    return torch.cat([torch.stack(each, -1).to(marks.dtype), marks], -1)


def similarity(problem: Problem) -> Tensor:
    """``[B]`` the neighbours' mean cosine, by kernel weight; zero without any."""
    return (problem.neighbours.weight * problem.neighbours.similarity).sum(-1)


def uncertainty(problem: Problem) -> Tensor:
    """``[B]`` entropy of the own choices over that of as many even ones: 0 sure, 1 clueless.

    Raises:
        SettingError: the samples are raw texts.
    """
    if problem.own_scores.shape[1] == 0:
        raise SettingError("Expected questions with choices to tell how sure the model is, got raw text; give choices.")
    choices = problem.own_scores.isfinite().sum(-1).to(problem.own.dtype)
    return entropy(problem.own_scores) / choices.log().clamp_min(1e-12)


def ahead(problem: Problem) -> Tensor:
    """``[B]`` log-likelihood by which the best choice leads the second."""
    return margin(problem.own_scores, problem.own_scores)


def _gradients(problem: Problem, experts: int) -> tuple[Tensor, Tensor]:
    """``[B, L]`` log of the slope of the neighbours' mean gradient, and how much of their length it keeps."""
    weight, each = problem.neighbours.weight[:, :, None, None], problem.of_neighbours(GRADIENT)
    together = (weight * each).sum(1)
    slope, _ = steepness(problem, together, core(problem.ranking, experts))
    apart = (weight.squeeze(-1) * each.norm(dim=-1)).sum(1)
    return slope.clamp_min(1e-9).log(), together.norm(dim=-1) / apart.clamp_min(1e-12)
