"""The trained numbers as they are shipped: one byte each, with a scale a neuron."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from c3po_adaptive.storage.tensors import save_tensors

from .apart import Recipe, Upper
from .router import Routing


def export(upper: Upper, routers: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """Of each layer: ``gate``, ``up``, ``down`` ``[E, F, H]`` in int8 with scales ``[E, F]``, and ``router [E, H]``."""
    found = {}
    for layer, router in routers.items():
        experts = upper.experts[str(layer)]
        found[f"layers.{layer}.router"] = router.half()
        for name, weight in (("gate", experts.gate), ("up", experts.up), ("down", experts.down.mT)):
            scale = (weight.detach().abs().amax(-1) / 127).clamp_min(1e-8).half()
            found[f"layers.{layer}.{name}"] = (
                (weight.detach() / scale.float()[..., None]).round().clamp(-127, 127).char()
            )
            found[f"layers.{layer}.{name}.scale"] = scale
    return {name: tensor.contiguous() for name, tensor in found.items()}


def recipe_of(recipe: Recipe, routing: Routing) -> dict[str, Any]:
    """Everything that made them, as it stands beside them."""
    return asdict(recipe) | asdict(routing)


def write(path: Path, tensors: Mapping[str, Tensor], recipe: Recipe, routing: Routing) -> None:
    """Write them, with the recipe that made them."""
    save_tensors(tensors, path, {"recipe": json.dumps(recipe_of(recipe, routing))})
