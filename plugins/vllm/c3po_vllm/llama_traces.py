"""Traces of what llama.cpp's ``moe-trace`` writes: ids, a row an expert that was chosen; weights are the router's, on
replay.

The tool is proposed for llama.cpp, and not part of a release (ggml-org/llama.cpp#28544,
``examples/moe-trace/moe-trace.cpp``). Each time that a layer of a batch is computed, it writes a line ``layer,expert``
for all experts of all its tokens, best first. A prompt is run in batches of ``-ub`` tokens; the last decoder layer
computes only those tokens of a batch that logits are asked of: the last one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from c3po_adaptive import RoutedModel, ShapeError
from c3po_adaptive.models.traced import NONE, Trace, check_tokens, of_experts

TOKENWISE = "run llama-moe-trace with -ub 1, and give the tokens that it ran"


def from_llama_cpp(model: RoutedModel, tokens: Tensor, rows: Tensor) -> Trace:
    """The trace of a ``moe-trace`` file's rows.

    Args:
        model: of the same family and settings; the GGUF file may be quantized.
        tokens: ``[T]`` ids of all that was run, the beginning-of-text token included.
        rows: ``[N, 2]`` decoder layer and expert.

    Raises:
        DataError: token ids that the model does not have.
        ShapeError: rows of other tokens, layers or experts; or of batches that the tool did not read rightly.
    """
    check_tokens(model, tokens)
    experts, end = torch.full((len(tokens), len(model.layers), model.sites[0].top_k), NONE), 0
    for batch in _batches(rows):
        each = _by_token(model, batch)
        end += len(each[0])
        for position, ids in enumerate(each if end <= len(tokens) else ()):
            experts[end - len(ids) : end, position] = ids
    if end != len(tokens):
        raise ShapeError(f"Expected rows of {len(tokens)} tokens, got those of {end}; {TOKENWISE}.")
    return of_experts(model, tokens, experts, by="llama.cpp")


def _batches(rows: Tensor) -> Iterator[list[tuple[int, Tensor]]]:
    """Of each batch the layers in which it was computed, each with its experts' ids."""
    layers, counts = rows[:, 0].unique_consecutive(return_counts=True)
    batch: list[tuple[int, Tensor]] = []
    for layer, ids in zip(layers.tolist(), rows[:, 1].split(counts.tolist()), strict=True):
        if batch and layer <= batch[-1][0]:
            yield batch
            batch = []
        batch.append((layer, ids))
    yield batch


def _by_token(model: RoutedModel, batch: list[tuple[int, Tensor]]) -> list[Tensor]:
    """Of each MoE layer the ids ``[n, k]`` of a batch's tokens; of the last one perhaps those of the last tokens alone.

    Raises:
        ShapeError: other layers; or what the tool as first proposed gives of several tokens. A layer's choice is a view
            of all experts in their order, token by token; read as if it were whole, it is the order of the first
            token's experts: no id comes twice before all have come, in whichever layer.
    """
    top_k, counts = model.sites[0].top_k, {len(ids) for _, ids in batch[:-1]} or {len(batch[0][1])}
    whole = len(counts) == 1 and not {n % top_k for n in (*counts, len(batch[-1][1]))} - {0}
    if tuple(layer for layer, _ in batch) != model.layers or not whole or len(batch[-1][1]) > max(counts):
        raise ShapeError(
            f"Expected {top_k} experts a token in MoE layers {model.layers[0]} to {model.layers[-1]}, got "
            f"{' and '.join(map(str, sorted(counts)[:3]))} in layers {batch[0][0]} to {batch[-1][0]} of a batch; "
            "import with the model that llama.cpp ran."
        )
    each = [ids.view(-1, top_k) for _, ids in batch]
    several = [ids.flatten()[: model.n_experts] for ids in each if len(ids) > 1]
    if several and all(len(ids.unique()) == len(ids) for ids in several):
        raise ShapeError(
            "Expected the experts of each token, got those of a batch's first token in their order: moe-trace reads a "
            f"batch of several tokens wrongly; {TOKENWISE}."
        )
    return each
