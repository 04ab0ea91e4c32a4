"""How evenly tokens load experts."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from c3po_adaptive import SeenRouting


class Load:
    """Counts of a model's experts, over tokens that were seen.

    Args:
        layers: decoder layer index of each of the L MoE layers.
        experts: E, of each layer.
    """

    def __init__(self, layers: tuple[int, ...], experts: int) -> None:
        self.layers, self.experts = layers, experts
        self._counts: dict[int, Tensor] = {}
        """Of each layer ``[E + 2]``: tokens of each expert, the sum of entropies, and tokens."""

    def __repr__(self) -> str:
        """In a line, of what this process saw: others are not asked."""
        size = f"{len(self.layers)} layers × {self.experts} experts"
        said = ", ".join(f"{name} {value:.4g}" for name, value in self._figures(self._stacked()).items())
        return f"Load({size}: {said or 'nothing seen yet'})"

    @torch.no_grad()  # what autograd keeps in a layer that is checkpointed, it would miss when that runs again
    def add(self, routing: SeenRouting, real: Tensor | None) -> None:
        """Count a layer's tokens.

        Args:
            routing: what the layer did with them.
            real: ``[B, T]`` bool, which of them are no padding; None, or of other tokens: all.
        """
        experts, entropy = routing.experts, torch.special.entr(routing.probabilities).sum(-1).double()
        counts = experts.new_ones(len(experts), dtype=torch.float64)
        if real is not None and real.numel() == len(experts):
            counts = real.reshape(-1).to(counts)
        found = counts.new_zeros(self.experts + 2)
        each = counts[:, None] * (experts >= 0)  # -1: a token that uses fewer
        found.scatter_add_(0, experts.reshape(-1).long().clamp_min(0), each.reshape(-1))
        found[-2], found[-1] = (entropy * counts).sum(), counts.sum()
        before = self._counts.get(routing.position)
        self._counts[routing.position] = found if before is None else before + found

    @property
    def counts(self) -> Tensor:
        """``[L, E]`` how many tokens used each expert, in all processes."""
        return self._summed()[:, :-2]

    def told(self, *, by_layer: bool = False) -> dict[str, float]:
        """What is logged of them; nothing, where nothing was seen."""
        return self._figures(self._summed(), by_layer=by_layer)

    def _figures(self, summed: Tensor, *, by_layer: bool = False) -> dict[str, float]:
        counts, entropy, tokens = summed[:, :-2], summed[:, -2], summed[:, -1]
        if not bool((tokens > 0).all()):
            return {}
        over = counts / counts.mean(-1, keepdim=True) - 1
        most, dead = over.amax(-1), (counts == 0).sum(-1)
        found = {
            "max_vio": float(most.mean()),
            "min_vio": float(over.amin(-1).mean()),
            "avg_vio": float(over.abs().mean()),
            "dead_experts": float(dead.sum()),
            "entropy": float((entropy / tokens).mean()),
        }
        if by_layer:
            found |= {f"max_vio/{layer}": float(value) for layer, value in zip(self.layers, most, strict=True)}
            found |= {f"dead_experts/{layer}": float(n) for layer, n in zip(self.layers, dead, strict=True)}
        return found

    def _summed(self) -> Tensor:
        """``[L, E + 2]``, of all processes."""
        summed = self._stacked()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(summed)
        return summed

    def _stacked(self) -> Tensor:
        """``[L, E + 2]``, of this process."""
        nothing = torch.zeros(self.experts + 2, dtype=torch.float64)
        each = [self._counts.get(position, nothing) for position in range(len(self.layers))]
        device = next((one.device for one in self._counts.values()), nothing.device)
        return torch.stack([one.to(device) for one in each])
