"""Workers on a Ray cluster, and their pieces. Ray restarts a worker that dies, and has it compute its piece again."""

from __future__ import annotations

import platform
import warnings
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from c3po_adaptive.errors import C3POError, DataError
from c3po_adaptive.study import Done, Piece, done

RETRIES = 3  # of a piece, or of a start, by a worker that died; and workers that may die of one piece
PATIENCE = 60.0  # seconds without any worker after which it is said what is waited for
ASKED = {"num_cpus": "CPU", "num_gpus": "GPU"}  # what Ray calls what a worker asks for
Compute = Callable[[Piece], tuple[Any, ...]]


class RayWorker:
    """The actor: a worker in a process elsewhere, unpacked once after each start of the process."""

    worker: Compute | None = None

    def prepare(self, payload: list[Any]) -> Compute:
        """Unpack the worker; the payload is a reference in a list, so that Ray fetches it here, and not before."""
        import ray

        if self.worker is None:
            try:
                self.worker = ray.get(payload[0]).unpack()
            except (C3POError, ImportError, AttributeError, OSError) as error:  # other versions than the driver's
                raise _said_here(error) from error
        return self.worker

    def start(self, payload: list[Any]) -> None:
        """Prepare, as soon as there is room."""
        self.prepare(payload)

    def compute(self, payload: list[Any], piece: Piece) -> Done:
        """A piece with its rows."""
        worker = self.prepare(payload)
        try:
            return done(worker, piece)
        except (C3POError, ImportError, OSError) as error:  # a package, or a file, that this machine lacks
            raise _said_here(error) from error


def _said_here(error: Exception) -> C3POError:
    """What keeps a worker from computing, with its machine; any other error is a mistake, whose traceback is wanted."""
    if not isinstance(error, C3POError):
        error = DataError(
            f"Expected a worker with the same packages and room on its disk, got {type(error).__name__}: {error}; "
            "install the driver's versions there, or free its disk."
        )
    error.args = (f"{error} (the worker on {platform.node()})",)
    return error


class _Lost(Exception):
    """A worker died of a piece, or of its start, again and again: one that has more memory may not."""


class PieceQueue:
    """Pieces that wait, by data set, arm and draw."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._waiting: dict[tuple[str, str, int], deque[Piece]] = {}
        for piece in pieces:
            self._waiting.setdefault((piece.dataset, piece.arm, piece.draw), deque()).append(piece)
        self._at: dict[int, tuple[str, str, int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def next_for(self, worker: int) -> Piece | None:
        """The next piece of the group that a worker is at; of another that nobody is at; or of the longest of all."""
        group = self._at.get(worker)
        if group not in self._waiting:
            taken = set(self._at.values())
            free = [key for key in self._waiting if key not in taken]
            group = free[0] if free else max(self._waiting, key=lambda key: len(self._waiting[key]), default=None)
        if group is None:
            return None
        self._at[worker] = group
        piece = self._waiting[group].popleft()
        if not self._waiting[group]:
            del self._waiting[group]
        return piece

    def leave_out(self, arm: str) -> None:
        """An arm that failed; one worker said so, and no other has to find out."""
        self._waiting = {key: pieces for key, pieces in self._waiting.items() if key[1] != arm}


class RayWorkers:
    """Actors that compute pieces.

    Ray's own pool of actors does not say which piece an error is of, so that calls are held here.

    Args:
        ray: Ray.
        payload: reference to what a worker unpacks.
        count: how many workers.
        each: what one asks for, as Ray has it.
    """

    def __init__(self, ray: Any, payload: Any, count: int, each: Mapping[str, float]) -> None:
        self._ray, self._payload, self._each = ray, [payload], each
        actor = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **each)(RayWorker)
        self._actors = [actor.remote() for _ in range(count)]

    def computed(self, queue: PieceQueue) -> Iterator[Done]:
        """Each piece, as it is done.

        A worker gets pieces one by one, from when it has found room. One that has nothing left to do computes again
        what another is at: that one's machine may be gone, and there may be no room to restart it. A piece of which one
        died is given to another, whose machine may have more memory.

        Raises:
            C3POError: what keeps a worker from computing; or a piece, or the start, of which all die.
        """
        calls: dict[Any, tuple[int, Piece | None]] = {
            actor.start.remote(self._payload): (number, None) for number, actor in enumerate(self._actors)
        }
        finished: set[Piece] = set()
        losses = _Losses(len(self._actors))
        idle: list[int] = []
        while queue or losses.waiting or any(piece and piece not in finished for _, piece in calls.values()):
            reference = self._first_answer(calls)
            number, piece = calls.pop(reference)
            if piece not in finished:
                try:
                    found = self._answer(reference, piece)
                except _Lost as lost:
                    losses.add(number, piece, lost, begun=any(piece == other for _, other in calls.values()))
                    if piece is None:
                        continue
                else:
                    if piece is not None and found is not None:
                        finished.add(piece)
                        losses.forget(piece)
                        if found.failure:
                            queue.leave_out(piece.arm)
                            losses.leave_out(piece.arm)
                        yield found
            idle.append(number)
            for worker in [*idle]:
                following = (
                    losses.next_for(worker) or queue.next_for(worker) or losses.begun_once(worker, calls, finished)
                )
                if following is not None:
                    idle.remove(worker)
                    calls[self._actors[worker].compute.remote(self._payload, following)] = worker, following

    def dismiss(self) -> None:
        """End all workers: others may wait for their cores."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _first_answer(self, calls: Mapping[Any, tuple[int, Piece | None]]) -> Any:
        """A call that is answered, once there is one."""
        while True:
            ready, _ = self._ray.wait(list(calls), num_returns=1, timeout=PATIENCE)
            if ready:
                return ready[0]
            if all(piece is None for _, piece in calls.values()):
                free = self._ray.available_resources()
                asked = (f"{n:g} {ASKED[k]} ({free.get(ASKED[k], 0):g} free in all)" for k, n in self._each.items())
                warnings.warn(
                    f"No worker has found room on Ray's cluster yet: each of {len(calls)} waits for "
                    f"{' and '.join(asked)}; end what holds them, add nodes, or take more workers, which ask for less "
                    "each.",
                    stacklevel=2,
                )

    def _answer(self, reference: Any, piece: Piece | None) -> Done | None:
        """What a call gave.

        Raises:
            C3POError: what a worker said itself.
            _Lost: it died too often.
        """
        errors = self._ray.exceptions
        try:
            found: Done | None = self._ray.get(reference)
        except errors.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(error, errors.RayTaskError) and not isinstance(cause, errors.RayError):
                raise (cause if isinstance(cause, C3POError) else error) from None
            raise _Lost(
                f"Expected {'workers that start' if piece is None else f'a worker that survives {piece}'}, got: "
                f"{error}; do machines have the model, the same packages and the memory for it?"
            ) from None
        return found


class _Losses:
    """Pieces of which workers died, and workers that died of their start.

    Args:
        count: how many workers there are.
    """

    def __init__(self, count: int) -> None:
        self.waiting: set[Piece] = set()
        self._able, self._died = {*range(count)}, defaultdict[Piece, set[int]](set)

    def add(self, worker: int, piece: Piece | None, lost: _Lost, *, begun: bool) -> None:
        """One more; ``begun``: another worker is at the piece already.

        Raises:
            DataError: no worker is left for it.
        """
        if piece is None:
            self._able.discard(worker)
        else:
            self._died[piece].add(worker)
            if not begun:
                self.waiting.add(piece)
        if not self._able or any(died >= self._able or len(died) >= RETRIES for died in self._died.values()):
            raise DataError(str(lost)) from None

    def next_for(self, worker: int) -> Piece | None:
        """A piece that waits, and of which this worker did not die."""
        found = next((piece for piece in self.waiting if worker not in self._died[piece]), None)
        if found is not None:
            self.waiting.remove(found)
        return found

    def begun_once(
        self, worker: int, calls: Mapping[Any, tuple[int, Piece | None]], finished: set[Piece]
    ) -> Piece | None:
        """A piece that one worker alone is at, and of which this one did not die."""
        times = Counter(piece for _, piece in calls.values() if piece and piece not in finished)
        alone = (piece for piece, count in times.items() if count == 1)
        return next((piece for piece in alone if worker not in self._died.get(piece, ())), None)

    def forget(self, piece: Piece) -> None:
        """One that is done."""
        self.waiting.discard(piece)
        self._died.pop(piece, None)

    def leave_out(self, arm: str) -> None:
        """An arm that failed."""
        for piece in [piece for piece in self._died if piece.arm == arm]:
            self.forget(piece)
