"""The card of a reference set's repository: what was run, with what, and how much of it was right."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypedDict

from pydantic import model_validator

from ..models.names import base_model
from ..storage.cards import TAGS, cell, code, load_snippet, rendered
from ..storage.json_files import Ours
from ..tasks.formats import format_key

SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
LARGER = "n>1M"
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


def set_card(
    card: SetCard,
    shape: Sequence[int],
    answered: Sequence[tuple[str, bool]],
    name: str,
    license: str | None,
) -> str:
    """The card's text.

    Args:
        card: of the set: model, format, embedder, versions.
        shape: of its pathways.
        answered: each question's task, and whether it was answered right.
        name: of the repository or folder.
        license: as the Hub calls it; None leaves it out, for the set's maker to say.
    """
    from huggingface_hub import DatasetCardData

    right = [correct for _, correct in answered]
    model, revision = str(card.get("model_name") or "…"), card.get("revision")
    dtype = card.get("dtype")
    counts: dict[str, list[bool]] = defaultdict(list)
    for task, correct in answered:
        counts[task or "–"].append(correct)
    data = DatasetCardData(
        license=license,
        tags=[*TAGS, "reference-set"],
        task_categories=["multiple-choice"],
        size_categories=next((size for most, size in SIZES.items() if len(right) < most), LARGER),
        base_model=base_model(model, revision),
        configs=[{"config_name": "default", "data_files": QUESTIONS}],
    )
    return rendered(
        data,
        Path(__file__).with_name("card.md.j2"),
        model=code(model),
        identity=code(card["model"]),
        dtype=code(dtype or "not known"),
        layers=", ".join(map(str, card.get("layers") or ())) or "not known",
        shape=list(shape),
        embedder=code(card["embedder"].get("name")),
        embedder_revision=code(card["embedder"].get("revision")),
        format=code(card["format"]),
        questions=len(right),
        right=sum(right),
        share=_percent(right),
        tasks=[(cell(task), len(each), sum(each), _percent(each)) for task, each in sorted(counts.items())],
        versions=", ".join(f"{cell(package)} {cell(v)}" for package, v in (card.get("versions") or {}).items()),
        load=load_snippet(model, dtype, revision),
        repository=repr(name),
        put=_put(card["format"]),
    )


def _percent(right: list[bool]) -> str:
    return f"{sum(right) / len(right):.1%}" if right else "–"


def _put(key: str) -> str:
    """A format's key as Python; settings that are what they always are left out."""
    name, _, settings = key.partition(" ")
    try:
        usual = json.loads(format_key(name).partition(" ")[2])
        other = {k: v for k, v in json.loads(settings).items() if usual.get(k) != v}
    except (ValueError, LookupError, AttributeError):  # of a release that had others
        return repr(name)
    return repr({"name": name, **other} if other else name)
