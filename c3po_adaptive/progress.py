"""Progress of long work, on standard error, when somebody is watching."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

T = TypeVar("T")


def bar(label: str) -> Callable[[Iterable[T]], Iterable[T]]:
    """Wraps an iteration over something sized; shows nothing when standard error is no terminal."""

    def wrapped(items: Iterable[T]) -> Iterator[T]:
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        total = len(items) if isinstance(items, Sized) else None
        yield from track(items, label, total=total, console=console, disable=not console.is_terminal, transient=True)

    return wrapped


class Paused(Exception):
    """The time that was given is over; what is done is kept."""


def limited(progress: Callable[[str], Callable[[Iterable[Any]], Iterable[Any]]], minutes: float) -> Any:
    """The same, but after so many minutes it raises ``Paused`` in place of the next item."""
    end = time.monotonic() + 60 * minutes

    def labelled(label: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
        def wrap(items: Iterable[Any]) -> Iterator[Any]:
            for item in progress(label)(items):
                if time.monotonic() >= end:
                    raise Paused
                yield item

        return wrap

    return labelled
