"""Progress of long work, on standard error, when somebody is watching."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

T = TypeVar("T")
Label = str | Callable[[T], str]


class Progress(Protocol):
    """Hands items on as they come, and shows how far it is."""

    def __call__(self, items: Iterable[T], label: Label[T], total: int | None = None) -> Iterator[T]:
        """The same items.

        Args:
            items: what is iterated over.
            label: what is being done, or what the item says that was done last.
            total: how many there are, where ``items`` has no length.
        """


def silent(items: Iterable[T], label: Label[T], total: int | None = None) -> Iterator[T]:
    """Shows nothing, a ``Progress``."""
    yield from items


_shown: list[Bar] = []
"""The display, while some bar is shown: a terminal has room for one."""


def bar(items: Iterable[T], label: Label[T], total: int | None = None) -> Iterator[T]:
    """A bar that is gone in the end, a ``Progress``; nothing when standard error is no terminal.

    Bars inside one another stand below one another.
    """
    with _display() as shown:
        task = shown.add_task("starting" if callable(label) else label, total=_count(items, total))
        try:
            for item in items:
                if callable(label):
                    shown.update(task, description=label(item))
                yield item
                shown.advance(task)
        finally:
            shown.remove_task(task)


@contextmanager
def stages(progress: Progress, *labels: str) -> Iterator[Callable[[], str]]:
    """What shows the next of some labels whenever it is called: for work that is no loop."""
    shown = progress(labels, str)
    try:
        yield lambda: next(shown)
    finally:
        if isinstance(shown, Generator):
            shown.close()


@contextmanager
def _display() -> Iterator[Bar]:
    if _shown:
        yield _shown[-1]
        return
    from rich.console import Console
    from rich.progress import Progress as Shown

    console = Console(stderr=True)
    with Shown(console=console, disable=not console.is_terminal, transient=True) as shown:
        _shown.append(shown)
        try:
            yield shown
        finally:
            _shown.remove(shown)


class Paused(Exception):
    """The time that was given is over; what is done is kept."""


def limited(progress: Progress, minutes: float) -> Progress:
    """The same, but after so many minutes it raises ``Paused`` in place of the next item, if there is one."""
    end = time.monotonic() + 60 * minutes

    def shown(items: Iterable[T], label: Label[T], total: int | None = None) -> Iterator[T]:
        count = _count(items, total)
        for number, item in enumerate(progress(items, label, total), start=1):
            yield item
            if time.monotonic() >= end and number != count:
                raise Paused

    return shown


def _count(items: Iterable[T], total: int | None) -> int | None:
    return len(items) if total is None and isinstance(items, Sized) else total
