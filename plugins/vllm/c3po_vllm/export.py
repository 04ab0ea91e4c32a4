"""The same function as a checkpoint that vLLM can serve: what it takes for granted is added as zeros."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoModelForCausalLM, PreTrainedModel

from c3po_adaptive import ModelError, RoutedModel, SettingError, new_folder, save_weights

FOLDER = "folder to export to"
UP, DOWN = "experts.gate_up_proj", "experts.down_proj"
QKV = ("q_proj.weight", "k_proj.weight", "v_proj.weight")
BIASED = "qwen2_moe"
"""The family that vLLM gives biases of query, key and value in any case (model_executor/models/qwen2_moe.py)."""


def export_for_vllm(model: RoutedModel, folder: str | Path, *, multiple_of: int = 1) -> Path:
    """Write a checkpoint of the same function, zeros added where vLLM (0.32) reads more than the model has.

    Its ``qwen2_moe`` has biases of query, key and value whatever ``qkv_bias`` says, and leaves them as memory happens
    to be where a checkpoint has none: the embedded model then answers with NaN. Kernels that want experts of another
    width than the model's get zero neurons. Neither adds anything: pathways of the model are pathways of the export.

    Args:
        model: what is exported.
        folder: a new one; what ``from_pretrained`` reads, tokenizer included.
        multiple_of: neurons of an expert; more than 1 is for experts that hold ``gate_up_proj [E, 2I, H]`` and
            ``down_proj [E, H, I]``, where the configuration calls I ``moe_intermediate_size``.

    Raises:
        SettingError: ``multiple_of`` is less than one.
        DataError: the folder is there already, or cannot be written.
        ModelError: experts of another layout are to be made wider.
    """
    if multiple_of < 1:
        raise SettingError(f"Expected multiple_of to be at least 1, got {multiple_of}.")
    with new_folder(folder, FOLDER) as writing:
        save_weights(with_zeros(model.model, multiple_of), writing)
        model.tokenizer.save_pretrained(writing)
    return Path(folder)


@torch.no_grad()
def with_zeros(model: PreTrainedModel, multiple_of: int) -> PreTrainedModel:
    """A copy with the biases that vLLM expects, and experts of a multiple of so many neurons; all that is new is zero.

    Raises:
        ModelError: experts of another layout than ``export_for_vllm`` knows are to be made wider.
    """
    config, state = copy.deepcopy(model.config), dict(model.state_dict())
    if multiple_of > 1:
        extra = -_neurons(model) % multiple_of
        config.moe_intermediate_size += extra
        state = {name: _wider(name, tensor, extra) for name, tensor in state.items()}
    if config.model_type == BIASED and not config.qkv_bias:
        config.qkv_bias = True
        named = [(name.removesuffix("weight") + "bias", w) for name, w in state.items() if name.endswith(QKV)]
        state |= {name: weight.new_zeros(len(weight)) for name, weight in named}
    filled: Any = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    filled.load_state_dict(state)
    filled.generation_config = model.generation_config
    filled.train(False)
    return filled  # type: ignore[no-any-return]


def _neurons(model: PreTrainedModel) -> int:
    neurons: int | None = getattr(model.config, "moe_intermediate_size", None)
    named = model.state_dict().items()
    downs = [tensor for name, tensor in named if name.endswith(DOWN)]
    ups = [tensor for name, tensor in named if name.endswith(UP)]
    widths = {tensor.shape[-1] for tensor in downs} | {tensor.shape[1] // 2 for tensor in ups}
    if neurons is None or not downs or len(ups) != len(downs) or widths != {neurons}:
        raise ModelError(
            f"Expected experts with gate_up_proj [E, 2I, H] and down_proj [E, H, I], I being moe_intermediate_size, "
            f"got {type(model).__name__} with {neurons} and widths {sorted(widths)}; export it with multiple_of=1."
        )
    return neurons


def _wider(name: str, tensor: Tensor, extra: int) -> Tensor:
    if name.endswith(DOWN):
        return pad(tensor, (0, extra))
    if name.endswith(UP):
        return torch.cat([pad(half, (0, 0, 0, extra)) for half in tensor.chunk(2, 1)], 1)
    return tensor
