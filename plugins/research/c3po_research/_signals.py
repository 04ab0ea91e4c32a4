"""What speaks for re-mixing a sample, known before anything is run: for plugins that choose by it."""

from __future__ import annotations

from torch import Tensor

from c3po_adaptive import Problem, SettingError


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
    logs = problem.own_scores.log_softmax(-1)
    entropy = -(logs.exp() * logs.masked_fill(logs.isinf(), 0.0)).sum(-1)
    return entropy / choices.log().clamp_min(1e-12)


def agreement(problem: Problem) -> Tensor:
    """``[B, L]`` 1 − Σ K_i d(p_i, p̄): how much the neighbours' pathways agree, 0 without any."""
    weight = problem.neighbours.weight[:, :, None, None]
    near = distribution(problem.neighbour_pathways)
    among = 0.5 * (weight * (near - (weight * near).sum(1, keepdim=True)).abs()).sum((1, -1))
    return (1 - among).clamp_min(0) * (problem.neighbours.weight.sum(-1) > 0).unsqueeze(-1)


def distribution(weights: Tensor) -> Tensor:
    """Rows ``[..., E]`` that sum to one, or are zero."""
    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
