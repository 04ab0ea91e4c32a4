"""What a terminal is shown: text, and the progress of long work on standard error, in bars or lines."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event, Thread
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Label = str | Callable[[T], str]
_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tab and newline, those that turn the direction of text, and halves of characters."""


def printable(text: object) -> str:
    """Text as a terminal may have it, whoever wrote it: what would command the terminal is escaped, as JSON does."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


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


def by_size(progress: Progress, parts: Iterable[T], label: str, sizes: Iterable[int]) -> Iterator[T]:
    """Hand on parts of several items each, and count the items.

    Args:
        progress: shows them.
        parts: what is iterated over.
        label: what is being done.
        sizes: how many items each part has.
    """
    each = list(sizes)
    shown = progress(range(sum(each)), label)
    next(shown, None)  # the first item is in work
    for part, size in zip(parts, each, strict=True):
        yield part
        for _ in range(size):
            next(shown, None)


EVERY = 30.0  # seconds between lines, at most
_shown: list[Any] = []
"""The display, while something is shown, ``rich``'s or ours: a terminal has room for one."""


def bar(items: Iterable[T], label: Label[T], total: int | None = None) -> Iterator[T]:
    """A bar that is gone in the end, a ``Progress``; lines when standard error is no terminal: one for each new label
    that the items give, and one every ``EVERY`` seconds.

    Bars inside one another stand below one another; a line says all of it.
    """
    with _display() as shown:
        task = shown.add_task("starting" if callable(label) else printable(label), total=_count(items, total))
        try:
            for item in items:
                if callable(label):  # the item is done
                    shown.advance(task)
                    shown.update(task, description=printable(label(item)))
                    yield item
                else:
                    yield item
                    shown.advance(task)
        finally:
            shown.remove_task(task)


@contextmanager
def working(label: str) -> Iterator[None]:
    """The same for work that cannot be counted."""
    with _display() as shown:
        task = shown.add_task(printable(label), total=None)
        try:
            yield
        finally:
            shown.remove_task(task)


@contextmanager
def _display() -> Iterator[Any]:
    if _shown:
        yield _shown[-1]
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TextColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}", markup=False), *Bars.get_default_columns()[1:]  # [/x] is a name, too
    with Bars(*columns, console=console, transient=True) if console.is_terminal else _Lines() as shown:
        _shown.append(shown)
        try:
            yield shown
        finally:
            _shown.remove(shown)


class _Lines:
    """Lines of text, used as a display is; a thread of its own says them, for one item may take longer than a line."""

    def __init__(self) -> None:
        self.tasks: dict[int, tuple[str, int, int | None]] = {}  # label, how many are done, and of how many
        self._began = time.monotonic()
        self._over = Event()
        self._thread = Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> _Lines:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def add_task(self, label: str, total: int | None = None) -> int:
        number = 1 + max(self.tasks, default=0)
        self.tasks[number] = label, 0, total
        return number

    def update(self, number: int, *, description: str) -> None:
        label, done, total = self.tasks[number]
        self.tasks[number] = description, done, total
        if description != label:
            self._say()

    def advance(self, number: int) -> None:
        label, done, total = self.tasks[number]
        self.tasks[number] = label, done + 1, total

    def remove_task(self, number: int) -> None:
        del self.tasks[number]

    def _repeat(self) -> None:
        while not self._over.wait(EVERY):
            self._say()

    def _say(self) -> None:
        tasks = [*self.tasks.values()]
        each = [label if total is None else f"{label} ({done} of {total})" for label, done, total in tasks]
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"{minutes}:{seconds:02} {', '.join(each)}", file=sys.stderr, flush=True)


RESUMES: ContextVar[bool] = ContextVar("resumes", default=False)
"""Whether the command that is carried out goes on from what is saved when it is given again."""


class Paused(Exception):
    """The allotted time is over; what is done is saved."""


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
