"""What all contracts share: each ``test_…`` holds, or says what does not; pytest runs them, and so does a command."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar
from unittest import SkipTest

from ..checks import checked
from ..errors import SettingError
from ..kernels.base import Product, Sum
from ..registry import Registry, check_class


class Contract:
    """A suite for one role. Subclass it as ``Test…`` and supply the fixture of the role's name.

    It needs no pytest: each ``test_…`` takes the strategy, and its documentation says what has to hold and how to mend
    what does not (``c3po plugins check`` shows both).

    Attributes:
        role: whose contract it is.
        first: the test that all others rest on: while it fails ``c3po plugins check`` tries no further, as one wrong
            shape would fail most of them; "" where there is none.
        exceptions: tests that are known to fail for this strategy, and why; one that passes after all is an error.
    """

    role: ClassVar[str]
    first: ClassVar[str] = ""
    exceptions: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if unknown := [name for name in cls.exceptions if not hasattr(cls, name)]:
            raise AttributeError(f"Expected exceptions to name tests of {cls.__name__}, got {unknown}; correct them.")
        for name, reason in cls.exceptions.items():
            setattr(cls, name, _failing(getattr(cls, name), reason))


def _failing(test: Callable[..., None], reason: str) -> Callable[..., None]:
    """A test that has to fail."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            test(*args, **kwargs)
        except SkipTest:
            raise
        except Exception as error:
            raise SkipTest(f"fails, as was said before: {reason}") from error
        raise AssertionError(f"Expected {test.__name__} to fail ({reason}), it passed; take it out of exceptions.")

    return run


def expect(holds: object, wanted: str, got: object = "") -> None:
    """Say what was wanted, and what came instead: without pytest an ``assert`` says nothing.

    Raises:
        AssertionError: it does not hold.
    """
    if not holds:
        raise AssertionError(f"Expected {wanted}" + (f", got {got}" if str(got) else "") + ".")


def not_for(applies: object, why: str) -> None:
    """Skip what has no meaning for a strategy.

    Raises:
        SkipTest: it does not apply.
    """
    if not applies:
        raise SkipTest(why)


@contextmanager
def refused(error: type[Exception], saying: str, what: str) -> Iterator[None]:
    """The block has to raise ``error`` with a message that matches ``saying``; ``what`` names the bad input."""
    try:
        yield
    except error as raised:
        expect(re.search(saying, str(raised)), f"{what} to be refused by a message with {saying!r}", repr(str(raised)))
    except Exception as raised:
        expect(False, f"{what} to be refused by a {error.__name__}", f"{type(raised).__name__}: {raised}")
    else:
        expect(False, f"{what} to be refused by a {error.__name__}", "an answer")


def check_identity(role: str, strategy: Any) -> None:
    """The class is fit for the registry; parameters, which identify a run with the name, are held against their types,
    and can be written as JSON; and it says in words what it leaves to chance, if anything.
    """
    if not isinstance(strategy, Sum | Product):
        check_class(role, type(strategy), "under test")
    for parameter in checked(type(strategy)):
        with refused(SettingError, parameter, f"{parameter}=object() (a __post_init__ calls super().__post_init__())"):
            replace(strategy, **{parameter: object()})
    description = json.loads(json.dumps(Registry.describe(strategy)))
    expect(description["name"] == strategy.name, f"the name {strategy.name!r}", description["name"])
    varies = getattr(strategy, "varies", "")
    expect(isinstance(varies, str), "varies to say in words what is left to chance, or nothing", repr(varies))
