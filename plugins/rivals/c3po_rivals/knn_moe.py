"""kNN-MoE: routing from a memory of similar cases, in one file.

Lyu et al. 2026, "Routing by Analogy: kNN-Augmented Expert Assignment for Mixture-of-Experts" (arXiv 2601.02144).
Offline, a memory a layer: what the router read (key), and the sparse routing that descending the right answer's loss
reached from the router's (value). Online, a layer looks up the k keys nearest to what its router reads now, and mixes
ω ← (1 − λ) ω0 + λ Σ s_i v_i / Σ s_i, where s_i are cosines and λ is their mean, so that it falls back to the router
where nothing matches. What the paper claims: better than the model as it is, and competitive with supervised
fine-tuning.

Where this departs from the paper: the memory holds one token a reference, the prompt's last, which is where ω acts (the
paper: every token of the reference texts); the routings of all layers are descended together, from ω0 as logits; and
the keys that are looked through are those of the neighbours that the arm's retriever gives, so that controls and the
filter of near-duplicates hold here, too: ``retriever: {name: faiss-knn, k: 300}`` makes it all of 300 references, as in
studies/rivals. How many neighbours and steps and which rate the paper takes could not be looked up: these are ours.

Try it: ``c3po demo --arm knn-moe`` (among 3 neighbours, nearest by their text).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from c3po_adaptive import (
    Descent,
    PathwayOptimizer,
    Problem,
    ReferenceArtifact,
    ReferenceBatch,
    check_number,
    hookimpl,
    toward,
)


@dataclass(frozen=True)
class KNNMoE(Descent):
    """The router's weights mixed with those that served similar tokens of references best, as far as these are similar.

    Attributes:
        k: how many entries of the memory a layer looks up.
    """

    lr: float = 0.1
    parametrization: Literal["projection", "logits"] = "logits"
    k: int = 3
    name: ClassVar[str] = "knn-moe"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "k", at_least=1, whole=True)

    def optimize(self, problem: Problem) -> Tensor:
        found = problem.neighbours.weight > 0
        if self.steps == 0 or not found.any():
            return problem.own
        keys, values = problem.of_neighbours(KEY), problem.of_neighbours(self.value)
        value, coefficient = _looked_up(problem.router_input, keys, values, found, self.k)
        return problem.own + coefficient[..., None] * (toward(problem, value) - problem.own)

    @property
    def value(self) -> ReferenceArtifact:
        """``[N, L, E]`` the sparse routing that a reference's own descent reaches."""

        def compute(references: ReferenceBatch) -> Tensor:
            with torch.enable_grad():
                reached = self.descend_from(references.own, references.cheap_loss, references.movable)
            return _as_sparse(reached, references) if references.kind == "weights" else reached

        return ReferenceArtifact(f"routing by {replace(self, k=1)!r}", compute)  # k plays no part in it


def _key(references: ReferenceBatch) -> Tensor:
    return references.router_input


KEY = ReferenceArtifact("router input", _key)


def _looked_up(query: Tensor, keys: Tensor, values: Tensor, found: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What a memory says: values ``[B, L, E]``, and how much each layer trusts them ``[B, L]``.

    Args:
        query: ``[B, L, H]``.
        keys: ``[B, K, L, H]``.
        values: ``[B, K, L, E]``.
        found: ``[B, K]`` bool, entries that there are.
        k: how many entries count.
    """
    cosine = torch.cosine_similarity(query[:, None], keys, dim=-1).masked_fill(~found[:, :, None], -torch.inf)
    nearest = cosine.topk(min(k, cosine.shape[1]), dim=1)
    similarity = nearest.values.clamp_min(0)
    chosen = values.gather(1, nearest.indices[..., None].expand(-1, -1, -1, values.shape[-1]))
    total = similarity.sum(1)
    mean = (similarity[..., None] * chosen).sum(1) / total.clamp_min(1e-12)[..., None]
    return mean, total / nearest.values.isfinite().sum(1).clamp_min(1)


def _as_sparse(weights: Tensor, references: ReferenceBatch) -> Tensor:
    """Of ``weights [N, L, E]`` as many as the model uses itself, the largest, at each layer's mass."""
    place = weights.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    kept = weights * (place < references.used.sum(-1, keepdim=True))
    return kept * (references.own.sum(-1, keepdim=True) / kept.sum(-1, keepdim=True).clamp_min(1e-12))


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    return [KNNMoE]
