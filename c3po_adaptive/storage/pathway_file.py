"""A pathway in a file: float32 routing (safetensors) with a card in the same file, that says whose it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import DataError, disk_says
from .files import check_own, is_file
from .hub import REPOSITORY
from .json_files import Ours, checked, parse_json
from .tensors import load_tensors, metadata_of, save_tensors

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 2
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


class GateCard(BaseModel):
    """What makes weights of a router distribution, beside two tensors."""

    model_config = ConfigDict(frozen=True)

    k: int = Field(ge=1)
    renormalized: bool
    groups: dict[str, Any] | None = None


class PathwayCard(Ours):
    """the card of a pathway"""

    newest: ClassVar[int] = SCHEMA_VERSION

    schema_version: Literal[2]
    layers: tuple[int, ...]
    scope: str
    top_k: int | None = Field(ge=1)
    origin: Origin
    gate: GateCard | None = None


def write_pathway(path: Path, tensors: Mapping[str, Tensor], card: PathwayCard) -> None:
    """Write a pathway's file, whole or not at all.

    Args:
        path: of the file.
        tensors: ``router`` and ``own``; and ``bias`` and ``scale`` of a gate.
        card: whose it is.

    Raises:
        DataError: the disk refuses it, or something else than a pathway lies there.
    """
    import torch

    check_own(path, is_pathway, "a pathway's file")
    text = json.dumps(card.model_dump())
    try:
        # Copies: the model's own pathway is ω and ω0 at once.
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
    """Router and own, ``[L, E]`` or ``[B, L, E]`` both, ``bias`` and ``scale`` where it has a gate, and the card.

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
    names = ["router", "own", *([] if card.gate is None else ["bias", "scale"])]
    found = {name: tensors[name] for name in names if name in tensors}
    whole = len(found) == len(names) and all(t.is_floating_point() and t.isfinite().all() for t in found.values())
    shape = shapes.get("own", ())
    wanted = dict.fromkeys(names, shape) | ({} if card.gate is None else {"scale": (*shape[:-1], 1)})
    if not whole or any(shapes[name] != wanted[name] for name in names) or (found["own"] < 0).any():
        raise DataError(f"{path}: expected finite {', '.join(names)} of one shape, got {shapes}; {REMEDY}.")
    return {name: tensor.float() for name, tensor in found.items()}, card
