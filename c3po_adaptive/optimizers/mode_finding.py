"""Mode finding (mean shift) in pathway space."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from pydantic import NonNegativeInt
from torch import Tensor

from ..checks import Share
from ..kernels.base import Kernel, ReferenceFeatures
from ..kernels.gaussian import Gaussian
from ..problem import Problem
from ..retrievers.base import Retriever
from ..retrievers.faiss_knn import FaissKNN
from ._simplex import selection_of, toward
from .base import PathwayOptimizer


@dataclass(frozen=True)
class ModeFinding(PathwayOptimizer):
    """Move ω toward a mode of the density of successful pathways (mean shift).

    C3PO (arXiv 2504.07964), mode finding: ω ← α ω + (1 − α) ω̄ with ω̄ = Σ K(ω_i, ω) ω_i / Σ K(ω_i, ω); neighbours and
    kernel are those of pathway space, over the selected layers, not of input space. One reference alone spans no
    density: samples are then left as they are.

    The paper leaves open how many steps, which α, how many neighbours and which bandwidth: all four defaults are ours.

    Attributes:
        steps: of the mean shift.
        alpha: how much of ω stays in each step.
        retriever: of pathways; here the eight nearest.
        kernel: of pathways; here Gaussian, as wide as the median distance.
    """

    steps: NonNegativeInt = 5
    alpha: Share = 0.5
    retriever: Retriever = field(default_factory=lambda: FaissKNN(k=8))
    kernel: Kernel = field(default_factory=lambda: Gaussian("median"))
    name: ClassVar[str] = "mode-finding"
    searches_pathways: ClassVar[bool] = True
    one_for_all: ClassVar[str] = ""  # steps of the mean shift go to a mode, along no loss

    def optimize(self, problem: Problem) -> Tensor:
        layers, omega = selection_of(problem).layers, problem.own.clone()
        if self.steps == 0 or self.alpha == 1 or len(problem.reference_pathways) < 2:
            return omega
        for chosen in layers.unique(dim=0):
            rows = (layers == chosen).all(1).nonzero().squeeze(1)
            if chosen.any():
                omega[rows] = self._shift(problem, rows, chosen)
        return torch.where(layers.unsqueeze(-1), omega, problem.own)

    def _shift(self, problem: Problem, rows: Tensor, chosen: Tensor) -> Tensor:
        """Mean shift of samples ``rows`` that share the layers ``chosen [L]``; returns ``[r, L, E]``."""
        references = problem.reference_pathways[:, chosen].flatten(1).double().numpy()
        index, kernel = self.retriever.fit(references), self.kernel.prepare(ReferenceFeatures(references))
        excluded = [problem.excluded[i] for i in rows.tolist()] if problem.excluded else None
        full = problem.own.clone()
        for _ in range(self.steps):
            here = full[rows][:, chosen].flatten(1).double().numpy()
            hits = index.search(here, exclude=excluded)
            means = full.clone()
            for r, (point, near) in enumerate(zip(here, hits.index, strict=True)):
                near = near[near >= 0]
                weights = kernel(point[None], references[near])[0] if len(near) else np.zeros(0)
                if weights.sum() > 0:
                    means[rows[r]] = _mean(problem.reference_pathways, near, weights)
            stays = (means == full).all(-1, keepdim=True)  # of a layer: single weights alone would not keep its mass
            goal = torch.where(stays, full, toward(problem, means))
            full = torch.where(goal == full, full, self.alpha * full + (1 - self.alpha) * goal)
        return full[rows]


def _mean(pathways: Tensor, rows: np.ndarray, weights: np.ndarray) -> Tensor:
    share = torch.as_tensor(weights / weights.sum(), dtype=pathways.dtype)
    return torch.einsum("k,kle->le", share, pathways[torch.as_tensor(rows)])
