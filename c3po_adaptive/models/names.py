"""Names of models: those that stand for others, and those on the Hub."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

from ..storage.files import is_folder
from ..storage.hub import REPOSITORY

ALIASES = {
    "OLMoE": "allenai/OLMoE-1B-7B-0924",
    "OLMoE-Instruct": "allenai/OLMoE-1B-7B-0924-Instruct",
    "OLMoE-0125": "allenai/OLMoE-1B-7B-0125",
    "OLMoE-0125-Instruct": "allenai/OLMoE-1B-7B-0125-Instruct",
    "DeepSeekMoE": "deepseek-ai/deepseek-moe-16b-base",
    "DeepSeekMoE-chat": "deepseek-ai/deepseek-moe-16b-chat",
}
EMBEDDED = "smollm2-moe"
"""The model that is built here."""
MERGED = "smollm2-moe-merged"
"""Its experts behind routers made of prompts (``models/embedded/merged.py``)."""
VARIANTS = "c3po_adaptive.variants"
"""Other models that are made of the embedded one: entry points of this group, functions from it to one, by its name."""
_MADE_FROM = "HuggingFaceTB/SmolLM2-135M-Instruct"


def ours() -> tuple[str, ...]:
    """Models that are built here, those of installed packages' variants, too."""
    return EMBEDDED, MERGED, *sorted(entry_points(group=VARIANTS).names)


def base_model(name: str, revision: str | None) -> str | None:
    """A model's name on the Hub, for cards; of the embedded one, that of the model that it is made from.

    Args:
        name: as it was asked for.
        revision: the commit that it was loaded from; without one it is a folder of somebody's.
    """
    known = _MADE_FROM if name in ours() else ALIASES.get(name)
    return known or (name if revision is not None and re.fullmatch(REPOSITORY, name) else None)


def public_name(name: str) -> str:
    """A model's name for those elsewhere: of a folder its own name, for the way there is its owner's."""
    return Path(name).resolve().name if is_folder(Path(name)) else name
