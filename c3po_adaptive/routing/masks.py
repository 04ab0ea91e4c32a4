"""Attention masks of tails, for models that take ready ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .packing import Packed


def tree_masks(
    packed: Sequence[Packed], kinds: dict[str, int | None], dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """For each kind of layer ``[B, 1, S, P + S]``, added to attention scores."""
    masks = {kind: _mask(packed, window, dtype, chunked=kind == "chunked_attention") for kind, window in kinds.items()}
    return masks.get("", masks)


def _mask(packed: Sequence[Packed], window: int | None, dtype: torch.dtype, *, chunked: bool) -> Tensor:
    """Every tail row sees its own prompt (padded on the left) and its ancestors in the tail, within the window."""
    width, rows = max(p.past for p in packed), max(p.tokens.shape[1] for p in packed)
    seen = torch.zeros(len(packed), rows, width + rows, dtype=torch.bool)
    for b, p in enumerate(packed):
        here = p.tokens.shape[1]
        seen[b, :here, width - p.past : width] = True
        seen[b, :here, width : width + here] = p.seen
        if window is not None:
            places = torch.cat([torch.arange(width) - (width - p.past), p.positions[0]])
            mine = p.positions[0][:, None]
            near = mine // window == places // window if chunked else mine - places < window
            seen[b, :here, : width + here] &= near
        seen[b, range(here, rows), range(width + here, width + rows)] = True  # padding sees itself: no NaN
    if window is not None:  # such a layer's cache keeps the last tokens only
        seen = seen[:, :, max(0, width - (window - 1)) :]
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]
