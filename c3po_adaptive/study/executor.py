"""Work as data: pieces go in, rows come out, wherever they are computed; one process writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Piece:
    """What is computed at once: plain data, that can be sent anywhere.

    Attributes:
        dataset: name of the data set.
        arm: name of the arm; "" where a piece is about all of them.
        batch: number of the batch: questions ``batch * size`` to ``(batch + 1) * size`` of the whole list, so that a
            resumed run computes the same batches.
    """

    dataset: str
    arm: str
    batch: int


@dataclass(frozen=True)
class Done:
    """A piece, and its rows."""

    piece: Piece
    rows: tuple[Row, ...]


Compute = Callable[[Piece], tuple[Row, ...]]


class Executor(Protocol):
    """Computes pieces."""

    def map(self, compute: Compute, pieces: Iterable[Piece]) -> Iterator[Done]:
        """Each piece with its rows, as they are done; in any order.

        Args:
            compute: gives the rows of one; a ``Worker`` can be pickled, and loads what it needs where it is called.
            pieces: what is to be computed.
        """


@dataclass(frozen=True)
class LocalExecutor:
    """Computes pieces here, one after another."""

    def map(self, compute: Compute, pieces: Iterable[Piece]) -> Iterator[Done]:
        for piece in pieces:
            yield Done(piece, compute(piece))


HERE = LocalExecutor()
