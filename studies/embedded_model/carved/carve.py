"""Carve a dense feed-forward layer into one shared expert and 64 routed ones.

Which neurons are shared decides how much a pathway can steer. The *strongest* neurons (mean contribution) lose least
when shared, but then routed experts carry next to nothing of the output. The *steadiest* ones (mean over standard
deviation) are on for every token anyway; sharing those leaves the bursty neurons, which differ from token to token, to
the router. Between the two, ``mean ** a / std`` is bisected for the ``a`` that leaves the routed experts a given share
of the output.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

MASSIVE = 5.0  # times the layer's median output norm


@dataclass(frozen=True)
class Carving:
    """One layer's carving.

    Attributes:
        order: neurons ``[F]``: the shared ones first, then expert after expert.
        router: router rows ``[E, H]``, from the feed-forward input to logits.
    """

    order: Tensor
    router: Tensor


def carve(x: Tensor, h: Tensor, down: Tensor, *, shared: int, experts: int, share: float, seed: int) -> Carving:
    """Choose shared neurons, cluster the rest by co-activation, and fit a linear router.

    Args:
        x: feed-forward inputs ``[N, H]``.
        h: the neurons' activations ``[N, F]``.
        down: output matrix ``[H, F]``.
        shared: how many neurons every token uses; ``F - shared`` must be a multiple of ``experts``.
        experts: number of routed experts.
        share: wanted median over tokens of |routed output|^2 / |output|^2, with every expert on.
        seed: of the clustering.
    """
    contribution = h.abs() * down.norm(dim=0)
    ranked = _ranking(contribution, h, down, shared, share)
    always, routed = ranked[:shared].sort().values, ranked[shared:].sort().values
    groups = _balanced_clusters(contribution[:, routed], experts, seed)
    members = torch.stack([routed[torch.as_tensor(groups == e)] for e in range(experts)])
    return Carving(torch.cat([always, members.flatten()]), _fit_router(x, h, down, members))


def _ranking(contribution: Tensor, h: Tensor, down: Tensor, shared: int, share: float) -> Tensor:
    """Neurons ``[F]``, to be shared first, that leave the routed experts ``share`` of the output."""
    mean, std, total = contribution.mean(0), contribution.std(0), (h @ down.T).norm(dim=1)
    # a massive activation holds the attention sink in place: no router may scale it
    massive = contribution.amax(0) > MASSIVE * total.median()
    low, high = 0.0, 2.0  # the routed share falls as the exponent grows
    for _ in range(12):
        exponent = (low + high) / 2
        ranked = (mean**exponent / std).masked_fill(massive, torch.inf).argsort(descending=True)
        routed = ranked[shared:]
        got = ((h[:, routed] @ down[:, routed].T).norm(dim=1) / total).square().median().item()
        low, high = (exponent, high) if got > share else (low, exponent)
    return ranked


def _balanced_clusters(contribution: Tensor, experts: int, seed: int, rounds: int = 12) -> NDArray[np.intp]:
    """K-means with equal sizes: each round assigns neurons to centers by linear assignment."""
    rng = np.random.default_rng(seed)
    points = contribution - contribution.mean(0)
    points = (points / points.norm(dim=0)).T.numpy()
    points = points @ rng.normal(size=(points.shape[1], 128)).astype(np.float32) / np.sqrt(128)
    size = len(points) // experts
    centers = points[rng.choice(len(points), experts, replace=False)]
    slots: NDArray[np.intp] = np.arange(len(points)) // size
    for _ in range(rounds):
        cost = ((points[:, None] - centers[None]) ** 2).sum(-1)
        slots = linear_sum_assignment(np.repeat(cost, size, axis=1))[1] // size
        centers = np.stack([points[slots == e].mean(0) for e in range(experts)])
    return slots


def _fit_router(x: Tensor, h: Tensor, down: Tensor, members: Tensor, ridge: float = 1e-2) -> Tensor:
    """Ridge regression from the input to each expert's output norm, in units of the norms' spread."""
    norms = torch.stack([(h[:, m] @ down[:, m].T).norm(dim=1) for m in members], 1)
    # massive activations of the first token would own the fit
    norms = norms.clamp(max=norms.quantile(0.999))
    target = norms / norms.std()
    gram = x.T @ x
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    solution: Tensor = torch.linalg.solve(gram, x.T @ target)
    return solution.T.contiguous()
