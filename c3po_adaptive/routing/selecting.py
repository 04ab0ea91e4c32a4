"""How routers choose among their scores, where that is more than the best k.

A bias has its say in the choice alone, and of groups of experts only the best are looked at (DeepSeek-V3, arXiv
2412.19437, section 2.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from ..gate import Groups
from .families import table


def groups_of(router: nn.Module, *, pairs: bool) -> Groups | None:
    """A router's groups by its own settings; None: it has none."""
    counts = (getattr(router, name, None) for name in table().names["groups"])
    count = next((n for n in counts if isinstance(n, int)), 1)
    k = getattr(router, "topk_group", None)
    limited = count > 1 and isinstance(k, int) and getattr(router, "topk_method", "") != "greedy"
    return Groups(count, int(k), pairs) if limited and k else None


def selection_bias(router: nn.Module, called_with: Iterable[Any], n_experts: int) -> Tensor | None:
    """``[E]`` what a router adds to its scores when it chooses: its own, or what it is ``called_with``.

    The bias of its matrix is none: that is in its logits already.
    """
    own = (
        tensor
        for name, tensor in [*router.named_buffers(), *router.named_parameters()]
        if "bias" in name and name.rpartition(".")[2] != "bias"
    )
    vectors = (one for one in called_with if isinstance(one, Tensor) and one.ndim == 1)
    for tensor in (*vectors, *own):
        if tensor.numel() == n_experts and tensor.is_floating_point():
            return tensor.detach().flatten().float()
    return None
