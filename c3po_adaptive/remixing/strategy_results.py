"""What strategies have to give, and whose an unforeseen error is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor

from ..errors import C3POError, PluginError, SettingError, place_of
from ..optimizers.base import PathwayOptimizer
from ..problem import Problem
from ..routing.mixing import mass
from ..selectors.base import LayerSelector
from ..types import Selection

MASS_TOLERANCE = 1e-4


@contextmanager
def blamed(role: str, strategy: Any, method: str) -> Iterator[None]:
    """An unforeseen error in a strategy is that strategy's, by name, method, file and line."""
    try:
        yield
    except C3POError:
        raise
    except Exception as error:
        if should_reduce_batch_size(error):  # no fault of the strategy
            raise
        raise PluginError(
            f"Expected {role} {strategy.name!r} to work, got {type(error).__name__} in {method} at "
            f"{place_of(error, type(strategy))}: {error}; correct it, or choose another {role}."
        ) from error


def weights_of(returned: Any, own: Tensor, able: Tensor, selection: Selection, optimizer: PathwayOptimizer) -> Tensor:
    """What an optimizer returned, if it is a pathway that it may return.

    Args:
        returned: by the optimizer.
        own: ``[B, L, E]`` ω0.
        able: ``[B, L, E]`` bool, experts that may change in selected layers.
        selection: of layers.
        optimizer: whose it is.
    """
    if not isinstance(returned, Tensor):
        raise PluginError(
            f"Expected optimizer {optimizer.name!r} to return weights (B, L, E) = {tuple(own.shape)}, got "
            f"{type(returned).__name__}; return a tensor."
        )
    weights = returned.detach()
    _check_weights(weights, own, able, selection, optimizer)
    return weights


def _check_weights(
    weights: Tensor, own: Tensor, able: Tensor, selection: Selection, optimizer: PathwayOptimizer
) -> None:
    shape = tuple(own.shape)
    if tuple(weights.shape) != shape or not weights.isfinite().all() or (weights < 0).any():
        got = f"{tuple(weights.shape)} from {weights.min().item():g} to {weights.max().item():g}"
        wanted = f"finite weights >= 0 of shape (B, L, E) = {shape}"
    elif (drift := (mass(weights) - mass(own)).abs().max().item()) > MASS_TOLERANCE:
        wanted, got = "weights that keep the mass of each layer", f"a sum that differs by {drift:g}"
    elif ((weights != own) & ~selection.layers.unsqueeze(-1)).any():
        wanted, got = "the model's own weights in layers that are not selected", "others"
    elif ((weights != own) & ~able).any():
        wanted, got = "the model's own weights of experts that are not selected", "others"
    else:
        return
    raise PluginError(
        f"Expected optimizer {optimizer.name!r} to return {wanted}, got {got}; correct it, or choose another optimizer."
    )


def check_hits(hits: Any, samples: int, references: int, retriever: Any) -> None:
    arrays = [getattr(hits, name, None) for name in ("index", "similarity")]
    shapes = [getattr(array, "shape", None) for array in arrays]
    kinds = [array.dtype.kind if isinstance(array, np.ndarray) else "no array" for array in arrays]
    if kinds[0] not in "iu" or kinds[1] not in "fiu":
        wanted, got = "NumPy arrays of whole numbers (index) and real ones (similarity)", " and ".join(kinds)
    elif shapes[0] is None or shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != samples:
        wanted, got = f"hits with index and similarity of shape (B, K), B = {samples}", f"{shapes[0]} and {shapes[1]}"
    elif ((hits.index < -1) | (hits.index >= references)).any():
        wanted, got = f"rows from 0 to {references - 1}, or -1", f"{hits.index.min()} to {hits.index.max()}"
    elif not np.isfinite(hits.similarity[hits.index >= 0]).all():
        wanted, got = "finite similarities", "NaN or infinity among them"
    else:
        return
    raise PluginError(
        f"Expected retriever {retriever.name!r} to return {wanted}, got {got}; correct it, or choose another retriever."
    )


def check_values(values: Any, count: int, kernel: Any) -> None:
    real = isinstance(values, np.ndarray) and values.dtype.kind in "fiu"
    if not (real and values.shape == (1, count) and np.isfinite(values).all()):
        got = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise PluginError(
            f"Expected kernel {kernel.name!r} to return finite real values of shape (1, {count}), got {got}; "
            "correct it, or choose another kernel."
        )


def check_shares(shares: Any, count: int, kernel: Any) -> None:
    real = isinstance(shares, np.ndarray) and shares.dtype.kind in "fiu" and shares.shape == (count,)
    if not (real and (shares >= 0).all() and (not shares.any() or abs(shares.sum() - 1) < MASS_TOLERANCE)):
        raise PluginError(
            f"Expected kernel {kernel.name!r} to give {count} shares >= 0 that sum to one, or zeros, got others; "
            "correct its shares, or choose another kernel."
        )


def check_selection(selection: Selection, problem: Problem, selector: LayerSelector) -> None:
    if not isinstance(selection, Selection):
        raise SettingError(
            f"Expected selector {selector.name!r} to return a Selection, got {type(selection).__name__}."
        )
    if selection.mask.shape != problem.own.shape or selection.mask.dtype != torch.bool:
        raise SettingError(
            f"Expected selector {selector.name!r} to return a bool mask (B, L, E) = {tuple(problem.own.shape)}, got "
            f"{selection.mask.dtype} {tuple(selection.mask.shape)}."
        )
    shape = tuple(problem.own.shape[:2])
    for what, values, wanted in (
        ("scores (B, L)", selection.scores, shape),
        ("strength (B)", selection.strength, shape[:1]),
    ):
        if values is None or (tuple(values.shape) == wanted and values.isfinite().all()):
            continue
        got = "NaN or infinity among them" if tuple(values.shape) == wanted else f"{tuple(values.shape)}"
        raise SettingError(f"Expected selector {selector.name!r} to return finite {what} = {wanted}, got {got}.")
