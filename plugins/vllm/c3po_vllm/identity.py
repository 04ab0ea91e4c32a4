"""Which model is served, told from its routers alone: an engine lays other weights out in its own way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def routers_identity(routers: Iterable[Tensor]) -> str:
    """32 hex digits that identify the routers of a model, in float32 or bfloat16; float16 holds others.

    Models that differ in other weights only are one here; ``RoutedModel.fingerprint`` tells them apart, but needs the
    model as transformers holds it.

    Args:
        routers: of each MoE layer, in order, ``[E, H]``.
    """
    whole = hashlib.sha256()
    for weight in routers:
        # Rounded: a checkpoint in bfloat16 is the same model where it was loaded in float32.
        plain = weight.detach().to("cpu", torch.bfloat16).contiguous()
        whole.update(f"{tuple(plain.shape)}".encode())
        whole.update(plain.view(torch.uint8).numpy().data)
    return whole.hexdigest()[:32]
