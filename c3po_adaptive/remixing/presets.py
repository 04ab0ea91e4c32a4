"""Settings by name: strategies that go together, and what they learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UnknownNameError, suggestion


@dataclass(frozen=True)
class Preset:
    """Strategies and settings that go together.

    Attributes:
        specs: of each role: a strategy by name, or by a mapping of its name and parameters.
        settings: values of ``RemixSettings`` that are not the usual ones.
    """

    specs: Mapping[str, str | Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)


_USUAL = {"optimizer": "ngd", "kernel": "gaussian", "retriever": "faiss-knn", "selector": "fixed"}
_ALL_LAYERS = {"name": "fixed", "layers": "all", "experts": None}
_FROM_ALL = {"learn_from": "all", "loss": "lead"}

PRESETS: Mapping[str, Preset] = {
    "c3po": Preset(_USUAL),
    "nearest": Preset(
        {
            **_USUAL,
            "optimizer": {"name": "amortized-ngd", "lr": 0.1},
            "retriever": {"name": "faiss-knn", "k": 300},
            "selector": _ALL_LAYERS,
        },
        _FROM_ALL,
    ),
    "constant": Preset({**_USUAL, "optimizer": {"name": "constant", "lr": 0.1}, "selector": _ALL_LAYERS}, _FROM_ALL),
}
"""``c3po``: as published (arXiv 2504.07964): three neighbours, ten steps, the last five layers, the top 20 experts.
``nearest``: a step along the kept gradients of the 300 nearest references, in all layers; ``constant``: one change for
all questions, learned from all references by the same steps."""


def preset_named(name: str) -> Preset:
    """A preset.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if not isinstance(name, str) or name not in PRESETS:
        hint = suggestion(str(name), PRESETS, f"there are {', '.join(PRESETS)}.")
        raise UnknownNameError(f"Expected the name of a preset, got {name!r}; {hint}")
    return PRESETS[name]
