"""Errors: one root, and children that are builtin errors too, so ``except ValueError`` keeps working.

A message says what was expected, what came, and what to do next.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

METHODS = ("optimize", "score", "select", "__call__", "fit", "prepare")
"""What a strategy does, for messages that name a line."""
LONGEST = 200  # characters of a name that others are compared with
LISTED = 30
"""Names that a message lists; of more it says how many there are."""


class C3POError(Exception):
    """Root of every error raised on purpose by this package."""


class DataError(C3POError, ValueError):
    """A question file, reference set or run folder does not hold what it should."""


class ShapeError(C3POError, ValueError):
    """A tensor has the wrong shape, or values no routing weight can have."""


class SettingError(C3POError, ValueError):
    """A strategy or configuration got a value it cannot use."""


class UnknownNameError(C3POError, LookupError):
    """No strategy, arm, task or model of that name."""


class PluginError(C3POError, TypeError):
    """A plugin breaks its contract, clashes with another, or raises."""


class LabelError(PluginError, AttributeError):
    """A strategy that does not say ``needs_label`` asks for the right answer."""


class ModelError(C3POError, RuntimeError):
    """A model cannot be loaded, or its routing cannot be reached."""


class ArtifactError(C3POError, OSError):
    """A file that the package fetches or ships is missing, cut short or altered."""


def checked_call(function: Callable[P, T]) -> Callable[P, T]:
    """A function, or a method, that says how it is called, as a ``SettingError``, where its arguments do not fit."""
    taken = inspect.signature(function)
    shown = [part.replace(annotation=part.empty) for name, part in taken.parameters.items() if name != "self"]
    form = f"{function.__qualname__.removesuffix('.__init__')}{inspect.Signature(shown)}"

    @wraps(function)
    def called(*args: P.args, **named: P.kwargs) -> T:
        try:
            taken.bind(*args, **named)
        except TypeError as error:
            got = str(error).removeprefix("got ")
            raise SettingError(f"Expected {form}, got {got}; write it so, what is behind a * by its name.") from None
        return function(*args, **named)

    return called


def suggestion(name: str, known: Iterable[str], otherwise: str = "choose one of these.", all_in: str = "") -> str:
    """What to do next about a name that is none of those known: which are near, and then all that there are, so that
    what helps stands first.

    Args:
        name: that was asked for.
        known: names that there are.
        otherwise: what to do where none is near; "": then nothing is said.
        all_in: where many names are listed, such as ``in docs/reference/bed.md``.
    """
    known = list(known)
    has = f"{'is' if len(known) == 1 else 'are'} {_listed(known, all_in)}"
    by_case: dict[str, str] = {}
    for one in known:
        by_case.setdefault(one.casefold(), one)
    close = get_close_matches(name.casefold()[:LONGEST], by_case, n=3)
    if close:
        return f"did you mean {' or '.join(repr(by_case[one]) for one in close)}? There {has}."
    return otherwise and f"there {has}; {otherwise}"


def _listed(known: Sequence[str], all_in: str) -> str:
    """Names in a sentence: all of a few; of many the first, or where all are."""
    if len(known) <= LISTED:
        return ", ".join(known) or "none"
    return f"{len(known)}, listed {all_in}" if all_in else f"{', '.join(known[:LISTED])} and {len(known) - LISTED} more"


def with_article(what: str) -> str:
    """With its article: ``an arm``, ``a kernel``."""
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def disk_says(error: BaseException) -> str:
    """An error of the disk in words, without its number; of any other error what it says."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    if error.filename2:
        return f"{error.strerror} ({error.filename} → {error.filename2})"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} does not exist"
    return f"{error.strerror} ({error.filename})" if error.filename else error.strerror


def raised_at(error: BaseException, file: str | None) -> str:
    """``file:line`` of the innermost line of a file that an error came through; "" if it came through none."""
    through = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{_short(Path(str(file)))}:{through[-1]}" if through else ""


def place_of(error: BaseException, made: type) -> str:
    """``file:line`` where a class's own file raised an error, else where it does its work; its name without a file."""
    try:
        file = inspect.getsourcefile(made)
        lines, first = inspect.getsourcelines(made)
    except (OSError, TypeError):
        return made.__qualname__
    written = [name for name in METHODS if name in vars(made)]
    begins = f"def {written[0]}" if written else "class "  # what has to be looked at, below decorators
    below = next((i for i, line in enumerate(lines) if line.lstrip().startswith(begins)), 0)
    return raised_at(error, file) or f"{_short(Path(str(file)))}:{first + below}"


def _short(file: Path) -> str:
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
