"""Arithmetic of routing weights: dense and sparse, mass, core experts. Shapes end in ``[..., E]``."""

from __future__ import annotations

import torch
from torch import Tensor

CORE = 20
"""Core experts of C3PO (arXiv 2504.07964), in layers of 64."""


def dense(index: Tensor, weights: Tensor, n_experts: int) -> Tensor:
    """``[R, E]`` from the chosen experts ``index [R, k]`` and their ``weights [R, k]``, in float32."""
    return torch.zeros(len(index), n_experts).to(weights.device).scatter_add(1, index, weights.float())


def sparse(weights: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n largest of ``weights [R, E]``: index ``[R, n]``, and weights ``[R, n]`` that keep the gradient."""
    index = weights.detach().topk(n, dim=-1).indices
    return index, weights.gather(-1, index)


def mass(weights: Tensor) -> Tensor:
    """``[..., 1]`` the sum of a layer's weights, which re-mixing keeps."""
    return weights.sum(-1, keepdim=True)


def with_mass(weights: Tensor, total: Tensor) -> Tensor:
    """Rescale ``weights`` to sum to ``total [..., 1]``; rows of zeros stay zero."""
    return weights * (total / mass(weights).clamp_min(torch.finfo(weights.dtype).tiny))


def placed(weights: Tensor, allowed: Tensor, own: Tensor) -> Tensor:
    """``weights`` on ``allowed`` experts, rescaled to what ``own`` has on them, and ``own`` on others; ``own`` where
    nothing is left of them.
    """
    cut = weights * allowed
    moved = torch.where(allowed, with_mass(cut, mass(own * allowed)), own)
    return torch.where(mass(cut) > 0, moved, own)


def top(weights: Tensor, k: int) -> Tensor:
    """Only the k largest weights of each row, rescaled to the row's mass."""
    index, largest = sparse(weights, k)
    return with_mass(torch.zeros_like(weights).scatter(-1, index, largest), mass(weights))


def core_size(n: int | None, experts: int) -> int:
    """How many core experts ``n`` means in a layer of so many: None is all, and so is the paper's 20 of fewer."""
    return experts if n is None or n == CORE > experts else n


def core(router: Tensor, n: int) -> Tensor:
    """``[..., E]`` bool: the n experts that the router ranks highest (C3PO's core experts)."""
    return torch.zeros_like(router, dtype=torch.bool).scatter(-1, router.topk(n, dim=-1).indices, True)
