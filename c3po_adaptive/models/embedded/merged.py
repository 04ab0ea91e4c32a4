"""The embedded model's experts as people merge some: behind routers made of prompts, by ``mergekit-moe``'s code."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from ..names import MERGED
from ..routed import RoutedModel
from ..with_tensors import router_tensors, with_tensors

ROUTERS = Path(__file__).with_name("merged_routers.safetensors")
"""Of each MoE layer ``[E, H]``: an expert's row is the dense model's mean hidden state there on eight of its family's
questions (``gate_mode: hidden_avg``), scaled to length one. Made by ``studies/merged``, case ``hidden_avg-8-0``."""


def merged(model: RoutedModel) -> RoutedModel:
    """The embedded model with those routers, in memory: it shares every other number with it."""
    rows = load_file(ROUTERS)
    matrices = {next(iter(router_tensors(model.model, site))): rows[f"layers.{site.layer}"] for site in model.sites}
    made = with_tensors(model, matrices)
    made.name = MERGED
    return made
