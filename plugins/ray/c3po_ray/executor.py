"""Pieces of a study computed on many machines, by Ray."""

from __future__ import annotations

import socket
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.study import Done, Piece

from .workers import Compute, PieceQueue, RayWorkers

if TYPE_CHECKING:
    from .worker_payload import WorkerPayload

ANSWER = 10.0  # seconds that a cluster has to answer


@dataclass(frozen=True)
class RayExecutor:
    """Computes pieces on a Ray cluster; each worker loads the model once.

    A worker gets pieces once it has found room, so that nothing waits for one whose machine is busy. One that dies is
    restarted by Ray where there is room, and computes its piece again; others compute it, too, once they have nothing
    else to do. A piece that kills every worker ends the run, after some tries. Pieces of one arm on one data set go to
    one worker as long as there are others to do, so that what they share is prepared once. Rows come back here, to the
    one writer: a driver that died goes on from what was written.

    Attributes:
        address: of the cluster, such as ``auto`` or ``ray://host:10001``; None: the one that this process is connected
            to already, or else one that is started on this machine.
        workers: how many at most; None: one for each GPU of the cluster where the study names a device that is no CPU,
            or else one for each CPU core. There are no more than pieces.

    Raises:
        SettingError: Ray is not installed, a number of workers below one, or this process is connected to another
            cluster.
        DataError: no cluster answers at the address, or lets us in; it has nothing to compute on; a worker lacks the
            model, the same versions, or room on its disk (told with the worker's machine); or a piece kills workers.
    """

    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise SettingError(f"Expected at least one worker, got {self.workers}; leave it out for all that fit.")
        _ray()

    def map(self, compute: Compute, pieces: Iterable[Piece]) -> Generator[Done, None, None]:
        from .worker_payload import WorkerPayload

        ray, queue = _ray(), PieceQueue(pieces)
        if not queue:
            return
        payload, connected = WorkerPayload.of(compute), self._connect()
        try:
            yield from self._computed(ray, payload, queue)
        finally:
            if connected:
                ray.shutdown()

    def _connect(self) -> bool:
        """Whether this process was not connected before."""
        ray = _ray()
        if ray.is_initialized():
            there = ray.get_runtime_context().gcs_address
            if self.address not in (None, "auto", there) and not self._by_client():
                raise SettingError(
                    f"Expected a process that is not connected to Ray, or to {self.address}, got one connected to "
                    f"{there}; leave the address out, or call ray.shutdown() before."
                )
            return False
        _check_answers(self.address)
        # Without an address Ray would take one of the environment, or whatever cluster it finds on this machine.
        address, dashboard = self.address or "local", None if self.address else False
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=dashboard)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise DataError(
                f"Expected a Ray cluster at {self.address or 'this machine'}, got: {error}; start one (`ray start "
                "--head`), or check the address."
            ) from None
        return True

    def _by_client(self) -> bool:
        """Whether that is how this process is connected: then no address of the cluster is the one that was given."""
        from ray.util import client

        as_client: Any = client.ray
        return (self.address or "").startswith("ray://") and bool(as_client.is_connected())

    def _computed(self, ray: Any, payload: WorkerPayload, queue: PieceQueue) -> Iterator[Done]:
        count, each = self._resources(ray, len(queue), on_gpus=payload.worker.config.device not in (None, "cpu"))
        try:
            sent = ray.put(payload)
        except ray.exceptions.RayError as error:  # its store is full, and so is the disk behind it
            raise DataError(
                f"Expected room for the study's questions and files in Ray's object store, got: {error}; free the disk "
                "or start Ray with a larger --object-store-memory."
            ) from None
        workers = RayWorkers(ray, sent, count, each)
        try:
            yield from workers.computed(queue)
        finally:
            workers.dismiss()

    def _resources(self, ray: Any, pieces: int, *, on_gpus: bool) -> tuple[int, dict[str, float]]:
        """How many workers, and what each asks for."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus, gpus = ([int(node.get(kind, 0)) for node in nodes] for kind in ("CPU", "GPU"))
        if sum(cpus) < 1:
            raise DataError("Expected a cluster with CPU cores, got none; start its nodes with --num-cpus.")
        gpus = [gpu if cpu and on_gpus else 0 for cpu, gpu in zip(cpus, gpus, strict=True)]
        count = min(self.workers or sum(gpus) or sum(cpus), pieces)
        if not sum(gpus):
            return count, {"num_cpus": _share(cpus, [count] * len(cpus), count)}
        sharing = -(-count // sum(gpus))  # workers on one GPU
        return count, {"num_cpus": _share(cpus, [gpu * sharing for gpu in gpus], count), "num_gpus": _part(sharing)}


def _share(held: Sequence[int], most: Sequence[int], count: int) -> float:
    """How many cores each of so many workers can have: whole ones, all of one node, or an equal part of one.

    A worker that asks for more than any node has waits for ever, and so does one for which only pieces are left.

    Args:
        held: cores of each node.
        most: workers that each node can have for other reasons.
        count: how many workers.
    """

    def fit(whole: int, parts: int) -> bool:
        return sum(min(node * parts // whole, top) for node, top in zip(held, most, strict=True)) >= count

    for whole in range(max(held), 0, -1):
        if fit(whole, 1):
            return whole
    return _part(next(parts for parts in range(2, count + 1) if fit(1, parts)))


def _part(parts: int) -> float:
    """One of so many equal parts, rounded down to ten-thousandths: Ray rounds to them, and up it leaves one no room."""
    return 10_000 // parts / 10_000


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
