"""Dense models by family, as people make them to be merged: adapters on the feed-forward layers of the embedded model's
parent, trained by PEFT on the family's questions with their right answers, and folded in. Each is a plain Llama.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from c3po_bed import EXPERTS
from embedded_model.apart import Recipe, Row, answer_loss, train
from embedded_model.make import donor, logged
from embedded_model.rows import of_families
from torch import Tensor, nn

from c3po_adaptive.errors import ArtifactError, UnknownNameError
from c3po_adaptive.storage.folders import new_folder
from c3po_adaptive.storage.identity import digest

FAMILIES = ("sentiment", "tone", "intent", "travel", "slot", "question type", "sums", "topic")
"""The first eight of the bed of whose every learned kind there are questions that nobody was asked; in the order of a
merge's experts."""

DONOR = "donor"
RECIPE = Recipe(lr=1e-3, batch=384, epochs=1, warmup=10, half=True)
RANK, ALPHA, TARGETS = 16, 32, ("gate_proj", "up_proj", "down_proj")


def folder_of(family: str, dense: Path) -> Path:
    """Where a family's model lies among the dense ones, or the donor."""
    return dense / family.replace(" ", "_")


def finetune(families: Sequence[str], kinds: Path, out: Path) -> list[Path]:
    """Write the donor and each family's model to ``out``; those that are there are kept.

    Args:
        families: of ``FAMILIES``.
        kinds: folder with ``KIND.train.jsonl`` of every learned kind.
        out: for the models' folders, the logs beside them, and while it trains a checkpoint to go on from.

    Raises:
        UnknownNameError: a family that is not merged.
        ArtifactError: PEFT is not installed.
    """
    if unknown := [family for family in families if family not in FAMILIES]:
        raise UnknownNameError(f"Expected a family, got {unknown[0]!r}; name one of {', '.join(map(repr, FAMILIES))}.")
    wanted = [folder_of(family, out) for family in (DONOR, *families)]
    if all(map(_is_there, wanted)):
        return wanted
    dense, tokenizer = donor(None)
    rows = of_families(kinds, tokenizer, RECIPE.seed)
    if not _is_there(wanted[0]):
        _save(dense, tokenizer, wanted[0])
    for family, folder in zip(families, wanted[1:], strict=True):
        if not _is_there(folder):
            own = [row for row in rows if row.expert == EXPERTS.index(family)]
            adapted = with_adapters(deepcopy(dense))
            of = digest([asdict(RECIPE), RANK, ALPHA, [row.ids for row in own]])[:12]
            checkpoint = out / f"{folder.name}-{of}.pt"
            logged(tuned(adapted, own, RECIPE, checkpoint), out / f"{folder.name}.jsonl")
            _save(adapted.merge_and_unload(), tokenizer, folder)
            checkpoint.unlink()
    return wanted


def with_adapters(dense: Any) -> Any:
    """The model with untrained adapters, which alone have gradients.

    Raises:
        ArtifactError: PEFT is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ArtifactError(
            f"Expected PEFT, which is not installed ({error}); pip install 'c3po_adaptive[tuning]'."
        ) from error
    torch.manual_seed(RECIPE.seed)
    with catch_warnings():
        simplefilter("ignore", FutureWarning)  # PEFT 0.21 asks transformers for what will be called otherwise
        return get_peft_model(dense, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS)))


def tuned(adapted: Any, rows: Sequence[Row], recipe: Recipe, checkpoint: Path) -> Iterator[dict[str, float]]:
    """Train a model's adapters in place; a record a step, see ``train``."""
    llama = adapted.get_base_model()

    def final(ids: Tensor, _: Tensor) -> Tensor:
        hidden: Tensor = llama.model(input_ids=ids).last_hidden_state
        return hidden

    def loss(batch: Sequence[int]) -> Tensor:
        part = [rows[i] for i in batch]
        return answer_loss(final, llama.lm_head.weight, part, [torch.tensor(row.ids) for row in part]).mean()

    learned = nn.ParameterList(p for p in adapted.parameters() if p.requires_grad)
    return train(learned, loss, rows, recipe, checkpoint)


def _is_there(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _save(dense: Any, tokenizer: Any, folder: Path) -> None:
    with new_folder(folder, "folder for a dense model") as writing:
        dense.save_pretrained(writing)
        tokenizer.save_pretrained(writing)
