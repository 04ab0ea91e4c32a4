"""Which model it is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .routed import RoutedModel


def fingerprint(model: RoutedModel) -> str:
    """Identifies a model by its routers' weights, where any two checkpoints differ, and how others are quantized."""
    from accelerate.utils import align_module_device

    digest = hashlib.sha256()
    for site in model.sites:
        for module in site.router.modules():
            with align_module_device(module):  # brings what is offloaded
                for parameter in module.parameters(recurse=False):
                    digest.update(parameter.detach().float().cpu().numpy().tobytes())
    quantized = getattr(model.model.config, "quantization_config", None)
    if quantized is not None:
        digest.update(str(quantized.to_dict() if hasattr(quantized, "to_dict") else quantized).encode())
    return digest.hexdigest()[:16]
