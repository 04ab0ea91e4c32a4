"""Progress of long work, on standard error, when somebody is watching."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

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
