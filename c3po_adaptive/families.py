"""What works for which family of models: a table that the tests write, shipped with the package."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

ABILITIES = ("read", "replace", "tail", "gradient", "generation")


def table() -> dict[str, Any]:
    """``transformers``: the version that it was made with; ``families``: see below."""
    read: dict[str, Any] = json.loads((files(__package__) / "families.json").read_text())
    return read


def families() -> dict[str, dict[str, object]]:
    """For each model type, its tails' layout and whether each ability works; or why it is refused."""
    found: dict[str, dict[str, object]] = table()["families"]
    return found
