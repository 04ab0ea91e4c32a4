"""Write a model as a stock checkpoint, which transformers alone loads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel

from ..errors import DataError, ModelError
from ..storage.folders import check_new, new_folder
from .footprint import GIB
from .routed import RoutedModel
from .snapshot import is_adapter

COPY = "folder for the copy"
BESIDE = 64 * 2**20  # bytes of tokenizer and configuration, at most


@contextmanager
def new_checkpoint(model: RoutedModel, out: str | Path) -> Iterator[Path]:
    """Write weights, configuration, tokenizer and processor to a new folder, whole or not at all; inside the block it
    is still under another name, and more can be put beside them.

    Raises:
        ModelError, DataError: as ``check_room``, or the disk refuses it.
    """
    check_room(model, out)
    with new_folder(out, COPY) as writing:
        save_weights(model.model, writing)
        model.tokenizer.save_pretrained(writing)
        if model.processor is not None:
            model.processor.save_pretrained(writing)
        yield writing


def save_weights(model: PreTrainedModel, folder: Path) -> None:
    """Write weights and configuration in the layout that the family has on the Hub, which other engines read, even if
    they were read in transformers' own, as ``mergekit`` writes it: transformers would keep that.
    """
    read = getattr(model, "_weight_conversions", None)
    if read == []:
        cast(Any, model)._weight_conversions = None  # by this transformers takes the family's
    try:
        model.save_pretrained(folder)
    finally:
        cast(Any, model)._weight_conversions = read


def check_room(model: RoutedModel, out: str | Path) -> None:
    """Refuse before anything is computed for it what could not be written in the end.

    Raises:
        ModelError: it has adapters, which a stock checkpoint has no place for.
        DataError: the folder is there already, or its disk has no room.
    """
    if adapted := [name for name, module in model.model.named_modules() if is_adapter(module)]:
        raise ModelError(
            f"Expected a model without adapters for a stock checkpoint, got one of PEFT at {adapted[0]}; merge them "
            "first, by PEFT's merge_and_unload, and save or load the model that it returns."
        )
    out = Path(out)
    check_new(out, COPY)
    there = next(folder for folder in out.absolute().parents if folder.is_dir())
    sizes = {id(t): t.numel() * t.itemsize for t in chain(model.model.parameters(), model.model.buffers())}
    needed, free = sum(sizes.values()) + BESIDE, shutil.disk_usage(there).free
    if needed > free:
        raise DataError(
            f"Expected {needed / GIB:.1f} GiB of room for the copy, got {free / GIB:.1f} free at {there}; free the "
            "disk, or name another --out."
        )
