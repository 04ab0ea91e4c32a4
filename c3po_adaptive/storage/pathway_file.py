"""A pathway in a file: float32 weights (safetensors) with a card in the same file, that says whose it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import DataError, disk_says
from .files import check_own, is_file
from .hub import REPOSITORY
from .json_files import Ours, checked, parse_json
from .tensors import load_tensors, metadata_of, save_tensors

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 1
KEY = "c3po_pathway"
REMEDY = "save it again: model.with_origin(pathway, text).save(path)"


class Origin(BaseModel):
    """Which model a pathway is of, and which texts.

    Attributes:
        model: identity of the model, as ``fingerprint`` tells it: every weight counts.
        name: how it was asked for.
        base_model: its name on the Hub, if it has one.
        revision: the commit that it was loaded from there.
        dtype: of its weights.
        prompts: SHA-256 of each sample's text (as a JSON string).
        texts: the texts themselves, where they were to be saved.
        versions: of the packages that decide how a model routes.
    """

    model_config = ConfigDict(frozen=True)

    model: str = Field(pattern="^[0-9a-f]+$")
    name: str
    base_model: str | None = Field(None, pattern=f"^{REPOSITORY}$")
    revision: str | None = None
    dtype: str
    prompts: tuple[str, ...]
    texts: tuple[str, ...] | None = None
    versions: dict[str, str]

    @model_validator(mode="after")
    def _one_text_each(self) -> Origin:
        if self.texts is not None and len(self.texts) != len(self.prompts):
            raise ValueError(f"{len(self.texts)} texts for {len(self.prompts)} prompts")
        return self

    def of(self, rows: Sequence[int]) -> Origin:
        """That of some of the samples."""
        texts = None if self.texts is None else tuple(self.texts[row] for row in rows)
        return self.model_copy(update={"prompts": tuple(self.prompts[row] for row in rows), "texts": texts})


class PathwayCard(Ours):
    """the card of a pathway"""

    newest: ClassVar[int] = SCHEMA_VERSION

    schema_version: Literal[1]
    layers: tuple[int, ...]
    scope: str
    top_k: int | None = Field(ge=1)
    origin: Origin


def write_pathway(path: Path, tensors: Mapping[str, Tensor], card: PathwayCard) -> None:
    """Write a pathway's file, whole or not at all.

    Args:
        path: of the file.
        tensors: ``weights`` and ``own``.
        card: whose it is.

    Raises:
        DataError: the disk refuses it, or something else than a pathway lies there.
    """
    import torch

    check_own(path, is_pathway, "a pathway's file")
    text = json.dumps(card.model_dump())
    try:
        # Copies: the model's own pathway is its weights and its own weights at once.
        copies = {name: t.detach().to("cpu", torch.float32, copy=True).contiguous() for name, t in tensors.items()}
        save_tensors(copies, path, {KEY: text})
    except OSError as error:
        raise DataError(f"Could not write {str(path)!r}: {disk_says(error)}; choose a writable folder.") from error


def is_pathway(path: Path) -> bool:
    """Whether a file is one of a pathway, if perhaps of another version."""
    try:
        return KEY in metadata_of(path, REMEDY)
    except DataError:
        return False


def read_pathway(path: Path) -> tuple[dict[str, Tensor], PathwayCard]:
    """Weights and own weights, ``[L, E]`` or ``[B, L, E]`` both, and the card.

    Raises:
        DataError: no such file, no pathway, one of a later release, or a damaged one.
    """
    if not is_file(path):
        raise DataError(f"Expected the file of a pathway at {path}, but there is none; {REMEDY}.")
    tensors = load_tensors(path, REMEDY)
    text = metadata_of(path, REMEDY).get(KEY)
    if text is None:
        raise DataError(f"{path}: expected the file of a pathway, got other tensors; {REMEDY}.")
    value = parse_json(text, str(path), REMEDY)
    card = checked(PathwayCard, value, str(path), REMEDY)
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    weights, own = tensors.get("weights"), tensors.get("own")
    if (
        weights is None
        or own is None
        or weights.shape != own.shape
        or not (weights.is_floating_point() and own.is_floating_point())
        or not (own.isfinite().all() and (own >= 0).all())
    ):
        raise DataError(f"{path}: expected finite weights and own weights of one shape, got {shapes}; {REMEDY}.")
    return {"weights": weights.float(), "own": own.float()}, card
