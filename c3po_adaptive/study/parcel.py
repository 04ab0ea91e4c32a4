"""What a process elsewhere is sent of a study: contents, and no paths of this machine but that of the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..references.reference_set import is_reference_set
from ..storage.files import is_file, whole
from ..storage.folders import cache_folder
from ..storage.identity import digest
from .data import Asked
from .worker import Worker


@dataclass(frozen=True)
class Parcel:
    """A worker with all that it reads.

    Attributes:
        worker: its plain fields.
        data: every data set, read here.
        files: contents by file name, of each path that is named here: plugins, files that strategies read, and built
            reference sets.
    """

    worker: Worker[Any]
    data: Mapping[str, Asked]
    files: Mapping[str, Mapping[str, bytes]]

    @classmethod
    def of(cls, worker: Worker[Any]) -> Parcel:
        """Read everything that is named by a path."""
        sets = [name for d in worker.config.datasets for name in d.references if is_reference_set(name)]
        files = {name: {Path(name).name: Path(name).read_bytes()} for name in (*worker.plugins, *worker.files)}
        files |= {
            name: {path.name: path.read_bytes() for path in Path(name).iterdir() if path.is_file()}
            for name in dict.fromkeys(sets)
        }
        return cls(worker, worker.data, files)

    def unpack(self) -> Worker[Any]:
        """The worker, and where what it reads lies in the cache of this machine.

        Raises:
            DataError: the disk refuses it.
        """
        places = {name: str(_place(Path(name), files)) for name, files in self.files.items()}
        plugins = tuple(places[name] for name in self.worker.plugins)
        worker = replace(self.worker, plugins=plugins, places=places)
        worker.data = dict(self.data)
        return worker


def _place(named: Path, files: Mapping[str, bytes]) -> Path:
    """Where a file, or the folder of a set, lies here: under what it holds, so that nothing else is met there, and
    several workers of one machine may write it at once."""
    folder = cache_folder() / "sent" / digest({name: hashlib.sha256(held).hexdigest() for name, held in files.items()})
    for name, content in files.items():
        _put(folder / name, content)
    return folder / named.name if named.name in files else folder


def _put(path: Path, content: bytes) -> None:
    """Write a file where there is none.

    Raises:
        DataError: the disk refuses it.
    """
    try:
        if not is_file(path):
            with whole(path) as writing:
                writing.write_bytes(content)
    except OSError as error:
        raise DataError(f"Could not write {path}: {error}; free the disk of this worker's machine.") from error
