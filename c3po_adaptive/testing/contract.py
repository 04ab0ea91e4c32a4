"""What all contract suites share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from ..kernels.base import Product, Sum
from ..registry import Registry, check_class


class Contract:
    """A suite for one role. Subclass it as ``Test…`` and supply the fixture of the role's name.

    Attributes:
        exceptions: tests that are known to fail for this strategy, and why; one that passes after all is an error.
    """

    exceptions: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if unknown := [name for name in cls.exceptions if not hasattr(cls, name)]:
            raise AttributeError(f"Expected exceptions to name tests of {cls.__name__}, got {unknown}; correct them.")

    @pytest.fixture(autouse=True)
    def _expect_exceptions(self, request: pytest.FixtureRequest) -> None:
        if reason := self.exceptions.get(request.function.__name__):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


def check_identity(role: str, strategy: Any) -> None:
    """The class is fit for the registry, and name and parameters, which identify a run, can be written as JSON."""
    if not isinstance(strategy, Sum | Product):
        check_class(role, type(strategy), "under test")
    description = json.loads(json.dumps(Registry.describe(strategy)))
    assert description["name"] == strategy.name
