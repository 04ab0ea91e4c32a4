"""What a process elsewhere is sent of a study: contents, and no paths of this machine but that of the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os.path import isdir, isfile  # of a name that none can have they say no
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from c3po_adaptive import DataError, ReferenceSet, SettingError, is_reference_set
from c3po_adaptive.errors import disk_says
from c3po_adaptive.study import Worker, atomic_file, cache_folder, digest

from .workers import Compute


@dataclass(frozen=True)
class WorkerPayload:
    """A worker with all that it reads: what an engine sends to the processes that compute for it.

    Attributes:
        worker: its plain fields; a model's folder by its whole path: processes elsewhere run in folders of their own.
        data: every data set, read here.
        files: contents by file name, of each path that is named here: plugins with what they import from beside them,
            files that strategies read, and built reference sets, of which nothing is sent but the files of a set.
    """

    worker: Worker[Any]
    data: Mapping[str, Any]
    files: Mapping[str, Mapping[str, bytes]]

    @classmethod
    def of(cls, worker: Compute) -> WorkerPayload:
        """Read everything that is named by a path.

        Raises:
            SettingError: it computes something else than a study on questions.
            DataError: a file cannot be read, or has a name that not every machine can have.
        """
        if not isinstance(worker, Worker):
            raise SettingError(f"Expected a study on questions to send, got {type(worker).__name__}; run it here.")
        data = worker.data  # checks the sets, too
        named = {name: [Path(name), *worker.registry.beside[name]] for name in worker.plugins}
        named |= {name: [Path(name)] for name in worker.files}
        for name in (name for d in worker.config.datasets for name in d.references if is_reference_set(name)):
            named[name] = [Path(name) / file for file in ReferenceSet.files]
        files = {name: {_plain(path.name): _read(path) for path in paths} for name, paths in named.items()}
        if isdir(folder := Path(worker.config.model)):
            config = worker.config.model_copy(update={"model": str(folder.resolve())})
            worker = replace(worker, config=config)
        return cls(worker, data, files)

    def unpack(self) -> Worker[Any]:
        """The worker, which computes pieces (see ``done``), and where what it reads lies in the cache of this machine.

        Raises:
            DataError: the disk refuses it, or a file's name would lead elsewhere.
        """
        plugins = tuple(str(_place(self.files[name]) / next(iter(self.files[name]))) for name in self.worker.plugins)
        others = {name: files for name, files in self.files.items() if name not in self.worker.plugins}
        # Of what is a file by itself that file, of a set its folder.
        places = {
            name: str(_place(files) / (next(iter(files)) if len(files) == 1 else "")) for name, files in others.items()
        }
        worker = replace(self.worker, plugins=plugins, places=places)
        worker.data = dict(self.data)
        return worker


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"Expected to read {path} for a worker elsewhere, got: {error.strerror}; check it.") from error


def _plain(name: str) -> str:
    """A file's name, if it is one on every machine, and no way to another folder.

    Raises:
        DataError: it is none.
    """
    if name in ("", ".", "..") or "\0" in name or not PurePosixPath(name).name == PureWindowsPath(name).name == name:
        raise DataError(f"Expected a file's name for a worker's folder, got {name!r}; rename that file.")
    return name


def _place(files: Mapping[str, bytes]) -> Path:
    """The folder in which files lie here: under what they hold, so that nothing else is met there, and several workers
    of one machine may write it at once."""
    for name in files:
        _plain(name)
    folder = cache_folder() / "sent" / digest({name: hashlib.sha256(held).hexdigest() for name, held in files.items()})
    for name, content in files.items():
        _put(folder / name, content)
    return folder


def _put(path: Path, content: bytes) -> None:
    """Write a file where there is none, or another: it may have been altered since.

    Raises:
        DataError: the disk refuses it.
    """
    try:
        if not isfile(path) or path.is_symlink() or path.read_bytes() != content:
            with atomic_file(path) as writing:
                writing.write_bytes(content)
    except OSError as error:
        raise DataError(
            f"Could not write {path}: {disk_says(error)}; free the disk of this worker's machine, or delete what "
            "lies there."
        ) from error
