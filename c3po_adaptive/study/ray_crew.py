"""Workers on a Ray cluster, and what becomes of their pieces when they die."""

from __future__ import annotations

import platform
import warnings
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import C3POError, DataError
from .executor import Done, Piece, done
from .groups import Groups
from .worker import Worker

LOSSES = 3  # workers that a piece, or sitting down, may cost one after the other: with one more it ends the run
PATIENCE = 60.0  # seconds without any worker after which it is said what is waited for
ASKED = {"num_cpus": "CPU", "num_gpus": "GPU"}  # what Ray calls what a worker asks for
AHEAD = 2  # pieces that a worker has: one that it computes, and one that waits for it


class Seat:
    """Where a worker sits, for as long as its process lives."""

    worker: Worker[Any]

    def sit(self, parcel: list[Any]) -> None:
        """Unpack the worker; the parcel comes as a reference in a list, so that Ray fetches it here, and not before."""
        import ray

        try:
            self.worker = ray.get(parcel[0]).unpack()
        except (C3POError, ImportError, AttributeError, OSError) as error:  # other versions than the driver's
            raise _said_here(error) from error

    def compute(self, piece: Piece) -> Done:
        """A piece with its rows."""
        try:
            return done(self.worker, piece)
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


@dataclass(eq=False)
class Call:
    """What a worker was asked for: a reference to what comes, and the piece; None: to sit down."""

    reference: Any
    piece: Piece | None = None


@dataclass(eq=False)
class Hired:
    """A worker as it is seen from here.

    Attributes:
        seat: Ray's handle.
        calls: what it has not answered yet, oldest first, which is what it is at.
        sits: whether Ray found room for it.
    """

    seat: Any
    calls: deque[Call]
    sits: bool = False


@dataclass(eq=False)
class Crew:
    """Workers, and the pieces that they have.

    Attributes:
        ray: Ray.
        parcel: reference to what a worker unpacks.
        count: how many workers.
        each: what one asks for, as Ray has it.
        lost: workers that died, by what they were at; None: sitting down.
    """

    ray: Any
    parcel: Any
    count: int
    each: Mapping[str, float]
    lost: Counter[Piece | None] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.hired = [self._hire() for _ in range(self.count)]

    @property
    def at_work(self) -> bool:
        """Whether somebody has a piece."""
        return any(call.piece for hired in self.hired for call in hired.calls)

    def next(self, groups: Groups) -> Done | None:
        """Wait for one answer, and give out pieces: what was computed, if that was it.

        Raises:
            C3POError: what keeps a worker from computing; or workers die again and again.
        """
        number, call = self._first_answer()
        hired, found = self.hired[number], None
        try:
            found = self.ray.get(call.reference)
            hired.calls.popleft()
            hired.sits = True
            self.lost[call.piece] = 0
        except self.ray.exceptions.RayError as error:
            self._blame(call.piece, error)
            groups.give_back([late.piece for late in hired.calls if late.piece])
            self._end(hired)
            self.hired[number] = self._hire()
        if found is not None and found.failure:
            groups.leave_out(found.piece.arm)
        self._give_out(groups)
        return found

    def dismiss(self) -> None:
        """End all workers: others may wait for their cores."""
        for hired in self.hired:
            self._end(hired)

    def _hire(self) -> Hired:
        seat = self.ray.remote(**self.each)(Seat).remote()
        return Hired(seat, deque([Call(seat.sit.remote([self.parcel]))]))

    def _end(self, hired: Hired) -> None:
        self.ray.kill(hired.seat)  # it may be alive, and out of reach

    def _first_answer(self) -> tuple[int, Call]:
        """The oldest call of some worker, once that is answered: of a worker that dies, the piece that it was at."""
        at = {hired.calls[0].reference: number for number, hired in enumerate(self.hired) if hired.calls}
        while True:
            ready, _ = self.ray.wait(list(at), num_returns=1, timeout=PATIENCE)
            if ready:
                return at[ready[0]], self.hired[at[ready[0]]].calls[0]
            if not self.at_work:
                free = self.ray.available_resources()
                warnings.warn(
                    f"No worker has found room on Ray's cluster yet: each of {len(at)} waits for "
                    + " and ".join(
                        f"{n:g} {ASKED[k]} ({free.get(ASKED[k], 0):g} free in all)" for k, n in self.each.items()
                    )
                    + "; end what holds them, add nodes, or take more workers, which ask for less each.",
                    stacklevel=2,
                )

    def _blame(self, piece: Piece | None, error: Exception) -> None:
        """Count a worker's death for what it was at.

        Raises:
            C3POError: what a worker said itself; or it was one too many.
        """
        cause = getattr(error, "cause", None)
        if isinstance(error, self.ray.exceptions.RayTaskError) and not isinstance(cause, self.ray.exceptions.RayError):
            raise (cause if isinstance(cause, C3POError) else error) from None
        self.lost[piece] += 1
        if self.lost[piece] > LOSSES:
            raise DataError(
                f"Expected {'workers that start' if piece is None else f'a worker that survives {piece}'}, got: "
                f"{error}; do machines have the model, the same packages and the memory for it?"
            ) from None

    def _give_out(self, groups: Groups) -> None:
        """To each that has nothing, then ahead; for those that still have to sit down there is one each left."""
        coming = sum(not hired.sits for hired in self.hired)
        for ahead in range(AHEAD):
            for number, hired in enumerate(self.hired):
                if hired.sits and len(hired.calls) == ahead and (not ahead or len(groups) > coming):
                    piece = groups.next_for(number)
                    if piece is not None:
                        hired.calls.append(Call(hired.seat.compute.remote(piece), piece))
