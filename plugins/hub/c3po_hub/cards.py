"""Cards: metadata in YAML, then Markdown from a template."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

from huggingface_hub import CardData, DatasetCardData, ModelCardData, RepoCard

from c3po_adaptive import Pathway, ReferenceSet, SettingError, base_model
from c3po_adaptive.tasks import format_key

from .markdown import cell, code

TAGS = ["c3po", "c3po_adaptive", "mixture-of-experts"]
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
LARGER = "n>1M"


@singledispatch
def card(what: Any, name: str, license: str | None) -> str:
    """The text of a card.

    Args:
        what: a set or a pathway.
        name: of its repository or folder.
        license: as the Hub calls it; None leaves it out, for who made it to say.
    """
    raise SettingError(
        f"Expected a ReferenceSet or a Pathway, got {type(what).__name__}, which has no card; save one of these."
    )


@card.register
def _(what: ReferenceSet, name: str, license: str | None) -> str:
    known, right = what.card, what.correct.tolist()
    model, revision, dtype = str(known.get("model_name") or "…"), known.get("revision"), known.get("dtype")
    counts: dict[str, list[bool]] = defaultdict(list)
    for question, correct in zip(what.questions, right, strict=True):
        counts[question.task or "–"].append(correct)
    data = DatasetCardData(
        license=license,
        tags=[*TAGS, "reference-set"],
        task_categories=["multiple-choice"],
        size_categories=next((size for most, size in SIZES.items() if len(right) < most), LARGER),
        base_model=base_model(model, revision),
        configs=[{"config_name": "default", "data_files": what.files[1]}],
    )
    return _rendered(
        data,
        "set_card.md.j2",
        model=code(model),
        identity=code(known["model"]),
        dtype=code(dtype or "not known"),
        layers=", ".join(map(str, known.get("layers") or ())) or "not known",
        shape=list(what.pathways.shape),
        embedder=code(known["embedder"].get("name")),
        embedder_revision=code(known["embedder"].get("revision")),
        format=code(known["format"]),
        questions=len(right),
        right=sum(right),
        share=_percent(right),
        tasks=[(cell(task), len(each), sum(each), _percent(each)) for task, each in sorted(counts.items())],
        versions=_versions(known.get("versions") or {}),
        load=_load(model, dtype, revision),
        repository=repr(name),
        put=_put(known["format"]),
    )


@card.register
def _(what: Pathway, name: str, license: str | None) -> str:
    origin = what.origin
    if origin is None:
        raise SettingError("Expected a pathway that says which model and text it is of; see model.with_origin.")
    texts = origin.texts or ("…",)
    changed = what.changed().reshape(-1, len(what.layers)).any(0).tolist()
    return _rendered(
        ModelCardData(
            base_model=origin.base_model, license=license, library_name="c3po_adaptive", tags=[*TAGS, "pathway"]
        ),
        "pathway_card.md.j2",
        model=code(origin.name),
        identity=code(origin.model),
        dtype=code(origin.dtype),
        prompts=[code(prompt) for prompt in origin.prompts],
        texts=[cell(text) for text in origin.texts or ()],
        kind="weights" if what.gate is None else "router distributions",
        shape=list(what.router.shape),
        rows=", ".join(map(str, what.layers)),
        changed=", ".join(str(layer) for layer, on in zip(what.layers, changed, strict=True) if on) or "none",
        acts=cell(what.scope if what.top_k is None else f"{what.scope}, the {what.top_k} largest weights of a layer"),
        versions=_versions(origin.versions),
        load=_load(origin.name, origin.dtype, origin.revision),
        repository=repr(name),
        text=repr(texts[0] if what.router.dim() == 2 else list(texts)),
    )


def _rendered(data: CardData, template: str, **values: Any) -> str:
    """A card's text. Values may come from files of others: those of a table or a line go through ``cell``."""
    return str(RepoCard.from_template(data, template_path=str(Path(__file__).with_name(template)), **values))


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{cell(package)} {cell(number)}" for package, number in versions.items())


def _load(name: str, dtype: str | None, revision: str | None) -> str:
    """The call that loads a model again, as Python."""
    given = {key: value for key, value in (("dtype", dtype), ("revision", revision)) if value is not None}
    return f"load_moe_model({', '.join([repr(name), *(f'{key}={value!r}' for key, value in given.items())])})"


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
