"""Work as data: pieces go in, rows come out, wherever they are computed; one process writes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol

from ..registry import Registry, new_registry

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


Work = Callable[[Piece], tuple[Row, ...]]


class Executor(Protocol):
    """Computes pieces."""

    def map(self, work: Work, pieces: Iterable[Piece]) -> Iterator[Done]:
        """Each piece with its rows, as they are done; in any order.

        Args:
            work: computes one; a ``Worker`` can be pickled, and loads what it needs where it is called.
            pieces: what is to be computed.
        """


@dataclass(frozen=True)
class LocalExecutor:
    """Computes pieces here, one after another."""

    def map(self, work: Work, pieces: Iterable[Piece]) -> Iterator[Done]:
        for piece in pieces:
            yield Done(piece, work(piece))


HERE = LocalExecutor()


@dataclass(eq=False)
class Worker:
    """What a process computes pieces with: its fields are plain data, and all that is sent to another process.

    What takes long to load (model, references) a subclass keeps in cached properties, which stay where they are.

    Attributes:
        plugins: paths of the plugin files whose strategies it may meet.
    """

    plugins: tuple[str, ...]

    @cached_property
    def registry(self) -> Registry:
        """Built-ins, plugins of installed packages, and those of the files."""
        registry = new_registry()
        for path in self.plugins:
            registry.load_file(path)
        return registry

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def sent(self) -> bytes:
        """As another process gets it."""
        return pickle.dumps(self)
