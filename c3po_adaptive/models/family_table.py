"""What works for which family of models: a table that the tests write, shipped with the package."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TypedDict

ABILITIES = ("read", "replace", "tail", "gradient", "generation")


class FamilyTable(TypedDict):
    """``transformers``: the release that it was made with; ``releases``: how many families work with each release that
    was tested; ``families``: see below."""

    transformers: str
    releases: dict[str, int]
    families: dict[str, dict[str, object]]


def table() -> FamilyTable:
    """As the tests wrote it."""
    read: FamilyTable = json.loads((files(__package__) / "families.json").read_text())
    return read


class ReadsImages(TypedDict):
    """``text``: the family of its language model; ``images``: whether they are read, or why not."""

    text: str
    images: bool | str


def image_families() -> dict[str, ReadsImages]:
    """Families of transformers with routers whose models read images, by the model type of the whole."""
    read: dict[str, ReadsImages] = json.loads((files(__package__) / "image_families.json").read_text())
    return read


def no_images(family: str) -> str:
    """Why images are not read by a family; "" if they are."""
    found = image_families().get(family, {"text": "", "images": "its family is not among those that were tried"})
    return "" if found["images"] is True else str(found["images"])


def families() -> dict[str, dict[str, object]]:
    """For each model type, its tails' layout and whether each ability works; or why it is refused."""
    return table()["families"]


def reason(row: dict[str, object]) -> str:
    """Why not everything works for a family; "" if it does."""
    return next((str(v) for key, v in row.items() if isinstance(v, str) and key != "layout"), "")
