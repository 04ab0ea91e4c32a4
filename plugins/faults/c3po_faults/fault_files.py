"""A model with a fault as a stock checkpoint, with the truth of the fault beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

from pydantic import JsonValue

from c3po_adaptive import C3POError, DataError, RoutedModel, check_room, new_checkpoint
from c3po_adaptive.study import (
    SCHEMA,
    Ours,
    checked,
    command_line,
    digest,
    digest_of_file,
    load_tensors,
    read_json,
    save_tensors,
)

from .faults import Fault, fault_of
from .planting import Planted, believed, known_fault, planted

FAULT = "fault.json"
SOUND = Path("sound", "router.safetensors")
"""The tensors that the fault changed, as they were; in a folder of its own, where no engine takes it for weights."""
WEIGHTS = "*.safetensors"


class _Truth(Ours):
    """the truth of a planted fault"""

    fault: dict[str, JsonValue]
    base: dict[str, str | None]
    files: dict[str, str]
    digest: str


class WrittenFault(TypedDict):
    """What stands in a ``fault.json``."""

    schema_version: int
    fault: dict[str, JsonValue]
    broken: list[int]
    kinds: list[str]
    undone_by: dict[str, JsonValue]
    base: dict[str, str | None]
    model: str
    files: dict[str, str]
    command: str | None
    digest: str


def write_faulty(model: RoutedModel, fault: Fault, out: Path | str) -> WrittenFault:
    """Write a copy of a model with a fault, which transformers alone loads, whole or not at all; the truth that stands
    in its ``fault.json``, too.

    Raises:
        DataError: the folder is there already, or the disk has no room for the copy or refuses it.
        SettingError, ModelError: as ``planted`` raises them.
    """
    out = Path(out)
    check_room(model, out)
    made = planted(model, fault)
    with new_checkpoint(made, out) as writing:
        save_tensors({name: t.detach().cpu() for name, t in known_fault(made).sound.items()}, writing / SOUND)
        truth = _truth(made, writing)
        (writing / FAULT).write_text(json.dumps(truth, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return truth


def fault_in(folder: Path) -> Planted | None:
    """The fault of a checkpoint that ``write_faulty`` wrote; None of any other. Its weights are held against those that
    were written, file by file: in whichever dtype they are loaded, and by whichever transformers.

    Raises:
        DataError: its truth is broken or was edited, half of it is missing, or the weights are others, as after
            fine-tuning.
    """
    path, remedy = folder / FAULT, f"write the copy again by c3po fault, or delete {FAULT} to use it as any model"
    if not path.is_file():
        return None
    written = read_json(path, remedy)
    told = checked(_Truth, written, str(path), remedy)
    try:
        fault = fault_of(told.fault)
    except (C3POError, KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"{path}: expected a fault, got {told.fault} ({error}); {remedy}.") from error
    if told.digest != _digest(written):
        raise DataError(f"{path}: expected the truth as it was written, got one that was edited; {remedy}.")
    if others := [name for name, _ in told.files.items() ^ _weights(folder).items()]:
        raise DataError(
            f"{path}: expected the weights that the fault was written with, got others in "
            f"{', '.join(sorted(set(others)))}: what is wrong with them is not known; {remedy}."
        )
    return Planted(fault, load_tensors(folder / SOUND, remedy) if fault.broken else {}, told.base)


def loaded_from(folder: Path) -> Callable[[RoutedModel], RoutedModel]:
    """What makes of a model that was loaded from such a folder one whose fault is known; errors as of ``fault_in``,
    before it is loaded."""
    fault = fault_in(folder)
    return lambda model: model if fault is None else believed(model, fault)


def _digest(truth: Mapping[str, Any]) -> str:
    """SHA-256 of all of a truth but this."""
    return digest({name: value for name, value in truth.items() if name != "digest"})


def _weights(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of weights, by name."""
    files = sorted(path for path in (*folder.glob(WEIGHTS), folder / SOUND) if path.is_file())
    with ThreadPoolExecutor() as pool:  # hashing leaves Python's lock
        return {
            str(path.relative_to(folder)): of for path, of in zip(files, pool.map(digest_of_file, files), strict=True)
        }


def _truth(made: RoutedModel, folder: Path) -> WrittenFault:
    known = known_fault(made)
    fault = known.fault
    truth: WrittenFault = {
        "schema_version": SCHEMA,
        "fault": fault.values(),
        "broken": list(fault.broken),
        "kinds": list(fault.kinds),
        "undone_by": {"exchange": fault.undone_by, "sound": str(SOUND) if fault.broken else None},
        "base": dict(known.base),
        "model": made.fingerprint,
        "files": _weights(folder),
        "command": command_line(),
        "digest": "",
    }
    return {**truth, "digest": _digest(truth)}
