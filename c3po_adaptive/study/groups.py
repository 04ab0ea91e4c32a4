"""Pieces that wait for workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from .executor import Piece


class Groups:
    """Pieces that wait, by data set and arm."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._left: dict[tuple[str, str, int], deque[Piece]] = {}
        for piece in pieces:
            self._of(piece).append(piece)
        self._at: dict[int, tuple[str, str, int]] = {}
        self._out: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._left.values()))

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

    def give_back(self, pieces: Sequence[Piece]) -> None:
        """Pieces of a worker that died, to be given out next."""
        for piece in reversed(pieces):
            if piece.arm not in self._out:
                self._of(piece).appendleft(piece)

    def leave_out(self, arm: str) -> None:
        """An arm that failed; one worker said so, and no other has to find out."""
        self._out.add(arm)
        self._left = {key: pieces for key, pieces in self._left.items() if key[1] != arm}

    def _of(self, piece: Piece) -> deque[Piece]:
        return self._left.setdefault((piece.dataset, piece.arm, piece.draw), deque())
