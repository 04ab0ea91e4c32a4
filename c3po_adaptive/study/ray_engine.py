"""Pieces of a study computed on many machines, by Ray."""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import socket
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import C3POError, DataError, SettingError
from ..references.reference_set import is_reference_set
from ..storage.files import is_folder
from .data import Asked
from .executor import Compute, Done, Piece, done
from .worker import Worker

RETRIES = 3  # times that Ray begins a piece again whose worker died
LOSSES = 1  # times that it is then given to another worker
ANSWER = 10.0  # seconds that a cluster has to answer
AHEAD = 2  # pieces that a worker has: one that it computes, and one that waits for it


@dataclass(frozen=True)
class Parcel:
    """All that a process elsewhere needs of a study: contents, no paths of this machine but that of the model.

    Attributes:
        worker: its plain fields.
        data: every data set, read here.
        files: contents by path: plugins, files that strategies read, built reference sets.
        plugins: which of them are plugins.
    """

    worker: Worker[Any]
    data: Mapping[str, Asked]
    files: Mapping[str, bytes]
    plugins: tuple[str, ...]

    @classmethod
    def of(cls, worker: Worker[Any]) -> Parcel:
        """Read everything that is named by a path."""
        sets = [name for d in worker.config.datasets for name in d.references if is_reference_set(name)]
        files = {name: Path(name).read_bytes() for name in (*worker.plugins, *worker.files)}
        for folder in dict.fromkeys(sets):
            files |= {f"{folder}/{p.name}": p.read_bytes() for p in sorted(Path(folder).iterdir()) if p.is_file()}
        return cls(worker, worker.data, files, worker.plugins)

    def unpack(self) -> Worker[Any]:
        """The worker, in a folder of its own where relative paths lead to what they led to before."""
        folder = Path(tempfile.mkdtemp(prefix="c3po-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.chdir(folder)
        plugins = []
        for number, (name, content) in enumerate(self.files.items()):
            plugin = name in self.plugins
            path = folder / f"plugin-{number}" / Path(name).name if plugin else Path(name)
            _put(path, content)
            plugins += [str(path)] if plugin else []
        worker = replace(self.worker, plugins=tuple(plugins))
        worker.__dict__["data"] = dict(self.data)
        return worker


def _put(path: Path, content: bytes) -> None:
    """Write a file where there is none.

    Raises:
        DataError: the disk refuses it.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise DataError(f"Could not write {path}: {error}; free the disk of this worker's machine.") from error


class Seat:
    """Where a worker sits: unpacked when the first piece comes, also after it died and was started again."""

    worker: Worker[Any] | None = None

    def compute(self, parcel: list[Any], piece: Piece) -> Done:
        """A piece with its rows; the parcel comes as a reference in a list, so that it is fetched only when needed."""
        try:
            if self.worker is None:
                self.worker = _ray().get(parcel[0]).unpack()
        except (C3POError, ImportError, AttributeError, OSError) as error:  # other versions than the driver's
            raise _said_here(error) from error
        try:
            return done(self.worker, piece)
        except (C3POError, ImportError, OSError) as error:  # a package, or a file, that this machine lacks
            raise _said_here(error) from error


@dataclass(frozen=True)
class RayExecutor:
    """Computes pieces on a Ray cluster; each worker loads the model once.

    A worker that dies is started again, elsewhere if its machine is gone, and its piece is computed again; a piece that
    kills every worker ends the run, after some tries. Pieces of
    one arm on one data set go to one worker as long as there are others to do, so that what they share is prepared
    once. Rows come back here, to the one writer: a driver that died goes on from what was written.

    Attributes:
        address: of the cluster, such as ``auto`` or ``ray://host:10001``; None: one that is started on this machine.
        workers: how many; None: one for each GPU of the cluster, or for each CPU core where there is none.

    Raises:
        SettingError: Ray is not installed, or a number of workers below one.
        DataError: no cluster answers at the address, or lets us in; it has nothing to compute on; a worker lacks the
            model, the same versions, or room on its disk (told with the worker's machine); or a piece kills workers.
    """

    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise SettingError(f"Expected at least one worker, got {self.workers}; leave it out for all that fit.")
        _ray()

    def map(self, compute: Compute, pieces: Iterable[Piece]) -> Iterator[Done]:
        if not isinstance(compute, Worker):
            raise SettingError(f"Expected a study on questions for Ray, got {type(compute).__name__}; run it here.")
        ray = _ray()
        self._connect()
        try:
            yield from self._computed(ray, _absolute(compute), Groups(pieces))
        finally:
            if self.address is None:
                ray.shutdown()

    def _connect(self) -> None:
        ray = _ray()
        if ray.is_initialized():
            return
        _check_answers(self.address)
        try:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False if not self.address else None)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise DataError(
                f"Expected a Ray cluster at {self.address or 'this machine'}, got: {error}; start one (`ray start "
                "--head`), or check the address."
            ) from None

    def _computed(self, ray: Any, worker: Worker[Any], groups: Groups) -> Iterator[Done]:
        count, each = self._seats(ray)
        try:
            parcel = ray.put(Parcel.of(worker))
        except ray.exceptions.RayError as error:  # its store is full, and so is the disk behind it
            raise DataError(
                f"Expected room for the study's questions and files in Ray's object store, got: {error}; free the disk "
                "or start Ray with a larger --object-store-memory."
            ) from None
        kind = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **each)(Seat)
        seats = [kind.remote() for _ in range(count)]
        waiting: dict[Any, tuple[int, Any, Piece]] = {}
        lost: Counter[Piece] = Counter()

        def send(number: int, piece: Piece | None) -> None:
            """Give a worker a piece, if there is one."""
            if piece is not None:
                seat = seats[number]
                waiting[seat.compute.remote([parcel], piece)] = number, seat, piece

        for _ in range(AHEAD):
            for number in range(count):
                send(number, groups.next_for(number))
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            number, seat, piece = waiting.pop(ready)
            try:
                found: Done = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, C3POError) else error) from None
            except ray.exceptions.RayActorError as error:  # Ray itself gave up on it, with its node perhaps
                lost[piece] += 1
                if lost[piece] > LOSSES:
                    raise DataError(
                        f"Expected a worker that survives {piece}, got: {error}; do machines have the model, the same "
                        "packages and the memory for it?"
                    ) from None
                if seats[number] is seat:  # the piece behind it may have been told of the same death
                    seats[number] = kind.remote()
                send(number, piece)
                continue
            send(number, groups.next_for(number))
            yield found

    def _seats(self, ray: Any) -> tuple[int, dict[str, float]]:
        """How many workers, and what each asks for."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus, gpus = ([int(node.get(kind, 0)) for node in nodes] for kind in ("CPU", "GPU"))
        if sum(cpus) < 1:
            raise DataError("Expected a cluster with CPU cores, got none; start its nodes with --num-cpus.")
        count = self.workers or sum(gpus) or sum(cpus)
        each = {"num_cpus": _share(cpus, count)}
        if sum(gpus):
            each["num_gpus"] = min(1.0, _share(gpus, count))
        return count, each


def _share(held: Sequence[int], count: int) -> float:
    """What each of so many workers can have: whole ones, all of one node, or an equal part of one.

    A worker that asks for more than any node has waits for ever, and so does one for which only pieces are left.
    """
    for whole in range(sum(held) // count, 0, -1):
        if sum(node // whole for node in held) >= count:
            return whole
    return 1 / -(-count // sum(held))


def _said_here(error: Exception) -> C3POError:
    """What keeps a worker from computing, with its machine; any other error is a mistake, whose traceback is wanted."""
    if not isinstance(error, C3POError):
        error = DataError(
            f"Expected a worker with the same packages and room on its disk, got {type(error).__name__}: {error}; "
            "install the driver's versions there, or free its disk."
        )
    error.args = (f"{error} (the worker on {platform.node()})",)
    return error


def _check_answers(address: str | None) -> None:
    """Find out in seconds whether somebody listens at an address: Ray tries for minutes.

    Raises:
        DataError: nobody does.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise DataError(
            f"Expected a Ray cluster at {address}, got: {error}; start one there (`ray start --head --port {port}`), "
            "or check address, firewall and VPN."
        ) from None


class Groups:
    """Pieces that wait, by data set and arm."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._left: dict[tuple[str, str, int], deque[Piece]] = {}
        for piece in pieces:
            self._left.setdefault((piece.dataset, piece.arm, piece.draw), deque()).append(piece)
        self._at: dict[int, tuple[str, str, int]] = {}

    def next_for(self, worker: int) -> Piece | None:
        """The next piece of a worker's group; of another that nobody is at; or of the longest of all."""
        group = self._at.get(worker)
        if group not in self._left:
            taken = set(self._at.values())
            free = [key for key in self._left if key not in taken]
            group = free[0] if free else max(self._left, key=lambda key: len(self._left[key]), default=None)
        if group is None:
            return None
        self._at[worker] = group
        piece = self._left[group].popleft()
        if not self._left[group]:
            del self._left[group]
        return piece


def _absolute(worker: Worker[Any]) -> Worker[Any]:
    """The same, with the model's folder by its whole path: workers sit in folders of their own."""
    config = worker.config
    if not is_folder(Path(config.model)):
        return worker
    moved = replace(worker, config=config.model_copy(update={"model": str(Path(config.model).resolve())}))
    moved.__dict__["data"] = worker.data
    return moved


def _ray() -> Any:
    """Ray.

    Raises:
        SettingError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise SettingError("Expected Ray for this engine, got none; pip install 'c3po_adaptive[ray]'.") from None
    return ray
