"""The card of a reference set's repository: what was run, with what, and how much of it was right."""

from __future__ import annotations

from typing import Self, TypedDict

from pydantic import model_validator

from ..storage.json_files import Ours

QUESTIONS, TENSORS = "questions.parquet", "tensors.safetensors"


class SetCard(TypedDict, total=False):
    """What a set says of itself, as its card holds it."""

    source: str
    model: str
    format: str
    embedder: dict[str, str]
    files: dict[str, str]
    model_name: str | None
    dtype: str | None
    revision: str | None
    layers: list[int] | None
    versions: dict[str, str] | None
    questions: int
    successes: int
    success_rate: float


class ReferenceSetCard(Ours):
    """the card of a reference set"""

    source: str
    model: str
    format: str
    embedder: dict[str, str]
    files: dict[str, str]
    model_name: str | None = None
    dtype: str | None = None
    revision: str | None = None
    layers: list[int] | None = None
    versions: dict[str, str] | None = None

    @model_validator(mode="after")
    def _hashed(self) -> Self:
        if sorted(self.files) != [QUESTIONS, TENSORS]:
            raise ValueError(f"files: hashes of {QUESTIONS} and {TENSORS} alone")
        return self
