"""What works for which family of models: a table that the tests write, shipped with the package."""

from __future__ import annotations

import json
from importlib.resources import files

ABILITIES = ("read", "replace", "tail", "gradient", "generation")


def families() -> dict[str, dict[str, object]]:
    """For each model type, its tails' layout and whether each ability works; or why it is refused."""
    table: dict[str, dict[str, object]] = json.loads((files(__package__) / "families.json").read_text())
    return table
