"""Work as data: pieces go in, rows come out, wherever they are computed; one process writes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ..errors import PluginError

_log = logging.getLogger(__name__)

Row = Any
"""What a kind of study makes of a question: a ``Record``; or what shards hold."""


@dataclass(frozen=True)
class Piece:
    """What is computed at once: plain data, that can be sent anywhere.

    Attributes:
        dataset: name of the data set.
        arm: name of the arm; "" where a piece is about all of them.
        batch: number of the batch: questions ``batch * size`` to ``(batch + 1) * size`` of the whole list, so that a
            resumed run computes the same batches.
        draw: of an arm that is drawn several times, which: by the arm's seed and as much.
    """

    dataset: str
    arm: str
    batch: int
    draw: int = 0


Compute = Callable[[Piece], tuple[Row, ...]]


@dataclass(frozen=True)
class Done:
    """A piece, and its rows; or what is wrong with the plugin that was to compute them."""

    piece: Piece
    rows: tuple[Row, ...]
    failure: str = ""


def done(compute: Compute, piece: Piece) -> Done:
    """Compute a piece; a plugin that fails is no reason to stop what others compute."""
    try:
        return Done(piece, compute(piece))
    except PluginError as error:
        _log.debug("%s", piece, exc_info=error)
        return Done(piece, (), str(error))


@runtime_checkable
class Executor(Protocol):
    """Computes pieces."""

    def map(self, compute: Compute, pieces: Iterable[Piece]) -> Generator[Done, None, None]:
        """Each piece with its rows, as they are done; in any order. What is left of an arm that failed may be missing.
        Closed, it computes no more and lets go of what it holds.

        Args:
            compute: gives the rows of one; a ``Worker`` can be pickled, and loads what it needs where it is called.
            pieces: what is to be computed.
        """


@dataclass(frozen=True)
class LocalExecutor:
    """Computes pieces here, one after another."""

    def map(self, compute: Compute, pieces: Iterable[Piece]) -> Generator[Done, None, None]:
        for piece in pieces:
            yield done(compute, piece)


HERE = LocalExecutor()


def device_here(executor: Executor, device: str | None, quantize: str | None) -> str | None:
    """Where a model goes in the process that has pieces computed.

    If others compute them it is only looked at, and has no need of a device that may not be there. But quantized
    weights are what their device makes of them, and have to be the others'.
    """
    return device if executor == HERE or quantize is not None else None
