"""Routers fitted in closed form, as the bed's own is, but by somebody who lacks something: families, or rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from c3po_bed import EXPERTS
from embedded_model.apart import Recipe, Row, Upper, entries
from embedded_model.make import FITTED, PACKAGES
from embedded_model.router import Routing, moments, routers
from embedded_model.rows import of_families, of_text
from torch import Tensor

from .bed import Bed, layers_of

ORPHANS = 3  # families of a model that were added after its router was fitted


def orphaned(bed: Bed, model: int) -> dict[int, Tensor]:
    """``[E, H]`` by layer, fitted without the rows of three families, whose experts were added later: theirs is the
    mean of the others'. Five such models orphan each family once.

    Args:
        bed: with experts, and rows to fit to.
        model: 0 to 4.
    """
    families = list(range(len(EXPERTS) - 1))
    torch.manual_seed(0)
    order = torch.randperm(len(families)).tolist()
    added = sorted(order[ORPHANS * model : ORPHANS * (model + 1)])
    there = [expert for expert in range(len(EXPERTS)) if expert not in added]
    rows = [row for row in _some(_rows(bed), FITTED) if row.expert in there]
    found = _fitted(bed, rows)
    for new in found.values():
        new[added] = new[there].mean(0)
    return found


def fitted_by_few(bed: Bed, number: int, draw: int) -> dict[int, Tensor]:
    """``[E, H]`` by layer, fitted to so many rows of each family."""
    known = _rows(bed)
    rows = _some(known, len(known), draw)
    few = [row for expert in range(len(EXPERTS)) for row in [r for r in rows if r.expert == expert][:number]]
    return _fitted(bed, few)


def _rows(bed: Bed) -> list[Row]:
    return [*of_families(bed.kinds, bed.tokenizer, 0), *of_text(bed.tokenizer, PACKAGES, 0)]


def _some(rows: Sequence[Row], number: int, draw: int = 0) -> list[Row]:
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(draw))
    return [rows[i] for i in order[:number].tolist()]


def _fitted(bed: Bed, rows: Sequence[Row]) -> dict[int, Tensor]:
    upper = _upper(bed)
    found = moments(upper, rows, entries(bed.dense, rows, upper.recipe.layers[0]))
    return {layer: new.clone() for layer, new in routers(found, Routing()).items()}


@torch.no_grad()
def _upper(bed: Bed) -> Upper:
    """The dense model's upper half beside the bed's experts, each of which can be run alone."""
    model = bed.model()
    layers = layers_of(model)
    width = model.config.moe_intermediate_size
    upper = Upper(bed.dense, Recipe(layers=tuple(layers), width=width, experts=model.config.num_experts))
    for layer in layers:
        stock, own = model.model.layers[layer].mlp.experts, upper.experts[str(layer)]
        gate, up = stock.gate_up_proj.chunk(2, dim=1)
        own.gate.copy_(gate)
        own.up.copy_(up)
        own.down.copy_(stock.down_proj)
    return upper
