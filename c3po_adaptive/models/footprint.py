"""How much memory a model takes, estimated from its configuration before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig

from ..errors import ModelError
from ..routing.families import table
from ..routing.head import projection
from ..routing.sites import is_experts, moe_layers, no_layers
from .architecture import language_model_class

BITS = {"4bit": 4.5, "8bit": 8.0}
"""A quantized weight with its share of the scales (bitsandbytes: one float32 for 64 weights of four bits)."""
GIB = 2**30


@dataclass(frozen=True)
class Footprint:
    """Sizes of a model.

    Attributes:
        parameters: how many, all experts included.
        experts: how many of them are routed experts'.
        bytes: of the weights, loaded.
        layers: decoder layers that are MoE layers.
        n_experts: routed experts of one of them.
        top_k: how many of these are used per token.
    """

    parameters: int
    experts: int
    bytes: int
    layers: tuple[int, ...]
    n_experts: int | None
    top_k: int | None

    @property
    def flops_per_token(self) -> float:
        """Of a forward pass: a multiply-add is two, and of routed experts only those count that a token uses."""
        used = self.top_k / self.n_experts if self.top_k and self.n_experts else 1.0
        return 2.0 * (self.parameters - self.experts * (1 - used))

    def __str__(self) -> str:
        share = self.experts / self.parameters
        return (
            f"{self.parameters / 1e9:.2f} G parameters ({share:.0%} in experts), {self.bytes / GIB:.1f} GiB of weights"
        )


def footprint(
    config: PreTrainedConfig, dtype: str | torch.dtype = "auto", quantize: str | None = None, **options: Any
) -> Footprint:
    """The sizes of a causal language model of this configuration; nothing is allocated.

    Linear layers are quantized, experts are not: transformers (5.24) leaves their joined weights as they are.

    Raises:
        ModelError: it is dense, or has experts that cannot be reached.
    """
    with torch.device("meta"):
        model = language_model_class(config).from_config(config, **options)
    layers = moe_layers(model)
    if not layers:
        raise ModelError(no_layers(model))
    width = (dtype_of(config) if dtype == "auto" else as_dtype(dtype)).itemsize
    experts = {
        id(p)
        for m in model.modules()
        for p in m.parameters(recurse=False)  # a weight of all experts has three axes, or two (dbrx)
        if (p.ndim == 3 and not isinstance(m, torch.nn.Conv1d)) or (p.ndim > 1 and is_experts(m))
    }
    linear = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)}
    linear -= {id(p) for m in (model.get_input_embeddings(), projection(model)) for p in m.parameters()}
    sizes = {id(p): p.numel() for p in model.parameters()}  # tied ones once
    total = sum(n * (BITS[quantize] / 8 if quantize and key in linear else width) for key, n in sizes.items())
    inside, text = sum(sizes[key] for key in experts), _settings(config)
    experts_of_layer, top_k = (_first_number(text, table().names[of]) for of in ("experts", "top_k"))
    return Footprint(sum(sizes.values()), inside, int(total), layers, experts_of_layer, top_k)


def _first_number(settings: Mapping[str, object], names: Sequence[str]) -> int | None:
    """The first of these settings that there is, under whichever name the family has it."""
    found = (settings.get(name) for name in names)
    return next((value for value in found if isinstance(value, int)), None)


def _settings(config: PreTrainedConfig) -> dict[str, object]:
    """Of the text model, with those of nested feed-forward settings (dbrx)."""
    text = config.get_text_config()
    nested = [value for value in vars(text).values() if isinstance(value, PreTrainedConfig)]
    return {key: value for part in [*nested, text] for key, value in vars(part).items()}


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A dtype of its name, or as it is."""
    found: torch.dtype = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    return found


def dtype_of(config: PreTrainedConfig) -> torch.dtype:
    """That of a checkpoint."""
    return as_dtype(config.get_text_config().dtype or config.dtype or torch.float32)


def available(device: str | None) -> int:
    """Bytes that are free on a device (None: the CPU)."""
    if device is not None and device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def check_memory(name: str, needed: Footprint, device: str | None) -> None:
    """Refuse a model whose weights do not fit, before reading them.

    Raises:
        ModelError: with what is needed, what is free, and what would help.
    """
    free = available(device)
    if needed.bytes > free:
        raise ModelError(
            f"Expected room for {name} on {device or 'the CPU'}, which needs {needed}, got {free / GIB:.1f} GiB free; "
            "load it with dtype='bfloat16', with device='auto' (spread over devices, the rest offloaded), or on a "
            "larger machine."
        )
