"""What is known of a question (``known_of``) as a few numbers, for plugins that learn from it.

What ``c3po_adaptive.known_of`` gives ends with the own pathway, ``L·E`` numbers, and five that tell the choices' form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from c3po_adaptive import SettingError

FORM = 5  # the last of what is known
TAUGHT = 4000  # references that components are found from
CLIP = 4.0  # standard deviations: a question unlike all references is taken for the farthest like them


def own_in(raw: Tensor, size: Sequence[int]) -> Tensor:
    """``[N, L, E]`` the own pathways in what is known, ``raw [N, F]``; ``size``: L and E."""
    own: Tensor = raw[:, -FORM - math.prod(size) : -FORM].unflatten(1, tuple(size))
    return own


def principal(raw: Tensor, dimensions: int) -> dict[str, Tensor]:
    """What reduces state and pathway in ``raw [N, F]`` to so many components of variance one, the form beside them."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(raw.double().numpy())
    scaled = scaler.transform(raw.double().numpy())[:, :-FORM]
    drawn = np.random.default_rng(0).permutation(len(scaled))[:TAUGHT]
    found = PCA(min(dimensions, len(drawn) - 1, scaled.shape[1]), svd_solver="full").fit(scaled[drawn])
    spread = found.explained_variance_**0.5
    spread = spread.clip(min=max(1e-3 * spread.max(initial=0.0), 1e-6))
    values = {"mean": scaler.mean_, "scale": scaler.scale_, "axes": found.components_.T / spread}
    return {name: torch.from_numpy(value).float() for name, value in values.items()}


def reduced(scaling: Mapping[str, Tensor], raw: Tensor) -> Tensor:
    """What is known, ``raw [N, F]``, as ``[N, D]``: components of state and pathway, and the form.

    Raises:
        SettingError: the scaling is of another model.
    """
    if raw.shape[1] != len(scaling["mean"]):
        raise SettingError(
            f"Expected questions of the model that was learned on, of whose state and pathway {len(scaling['mean'])} "
            f"numbers are known, got {raw.shape[1]}; learn again."
        )
    scaled = (raw - scaling["mean"]) / scaling["scale"]
    return torch.cat([scaled[:, :-FORM] @ scaling["axes"], scaled[:, -FORM:]], -1).clamp(-CLIP, CLIP)
