"""A strategy held against its role's contract, on toys, without pytest: a finding for each test, in seconds."""

from __future__ import annotations

import inspect
import json
import shlex
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal
from unittest import SkipTest

from ..errors import LabelError, PluginError, SettingError, place_of
from ..kernels.base import Kernel
from ..optimizers.base import PathwayOptimizer
from ..registry import ROLES, Registry
from ..retrievers.base import Retriever
from ..selectors.base import LayerSelector
from .answerers import AnswererContract
from .contract import Contract
from .kernels import KernelContract
from .optimizers import OptimizerContract
from .retrievers import RetrieverContract
from .rules import RuleContract
from .selectors import SelectorContract
from .toy import ToyTraining, toy_references

CONTRACTS: dict[str, type[Contract]] = {
    contract.role: contract
    for contract in (
        *(OptimizerContract, KernelContract, RetrieverContract, SelectorContract),
        *(AnswererContract, RuleContract),
    )
}
"""Each role's contract."""

TOY_SIZES = ((6, 24), (16, 64), (64, 256))
"""Layers and experts of toys that selectors are tested on: the first that has as many as they are set to take."""

Outcome = Literal["holds", "fails", "does not apply", "remark"]


@dataclass(frozen=True)
class Finding:
    """What one test of a contract found.

    Attributes:
        test: what was tested, in words.
        outcome: whether it holds; a remark breaks no contract.
        wanted: what has to hold.
        what: what was found instead, or why it does not apply.
        where: file and line of the strategy.
        remedy: how to mend it.
    """

    test: str
    outcome: Outcome
    wanted: str
    what: str = ""
    where: str = ""
    remedy: str = ""


def findings(role: str, strategy: Any) -> Iterator[Finding]:
    """What each test of the role's contract finds, in order, and remarks; one that learns learns from toys before.

    Args:
        role: one of ``CONTRACTS``.
        strategy: with the parameters that it is to be tested with.
    """
    contract = CONTRACTS[role]()
    if isinstance(contract, SelectorContract):
        contract.size = _size_for(strategy)
    try:
        strategy = _taught(strategy, contract)
    except Exception as error:
        wanted, remedy = "It learns from references.", "``prepare`` is given references to learn from, once."
        yield Finding("prepare", "fails", wanted, _said(error), place_of(error, type(strategy)), remedy)
        return
    found: list[Finding] = []
    for name in _tests(type(contract)):
        if _title(name) in {one.test for one in found}:
            continue  # another test met it before
        found.append(_next(name, contract, strategy, found))
        yield found[-1]
    if isinstance(contract, SelectorContract) and all(one.outcome != "fails" for one in found):
        yield from _idle(contract, strategy)


def _next(name: str, contract: Contract, strategy: Any, before: Sequence[Finding]) -> Finding:
    """What a test finds; a reason to fail is reported once."""
    failing = [one for one in before if one.outcome == "fails"]
    test = getattr(contract, name)
    if any(one.test == _title(contract.first) for one in failing):
        return Finding(
            _title(name), "does not apply", _wanted(test)[0], f"not tried before {_title(contract.first)!r} holds"
        )
    found = _found(name, test, strategy)
    same = next((one for one in failing if (one.what, one.where) == (found.what, found.where)), None)
    if found.outcome != "fails" or same is None:
        return found
    return Finding(_title(name), "does not apply", _wanted(test)[0], f"the same as of {same.test!r}", found.where)


def _taught(strategy: Any, contract: Contract) -> Any:
    """The same after it learned from toys, if it learns."""
    if isinstance(strategy, LayerSelector | PathwayOptimizer):
        size = contract.size if isinstance(contract, SelectorContract) else TOY_SIZES[0]
        return strategy.prepare(ToyTraining(size=size))
    if isinstance(strategy, Kernel | Retriever):
        return strategy.prepare(toy_references(contract.vectors()[0].shape[1]))  # type: ignore[attr-defined]
    return strategy


def _idle(contract: SelectorContract, selector: LayerSelector) -> Iterator[Finding]:
    """A remark on a selector that leaves every toy alone, which it may, but seldom means to."""
    if not selector.select(contract.make_problem(selector)).mask.any():
        yield Finding(
            "re-mixes some layer",
            "remark",
            "It re-mixes some layer of some question.",
            "It re-mixed no layer of any question.",
            remedy="If that is not meant: `ScoredLayers` takes layers whose score is above `threshold`, 0 if not set.",
        )


def _tests(contract: type[Contract]) -> list[str]:
    """In the order in which they are written."""
    return [name for kind in reversed(contract.__mro__) for name in vars(kind) if name.startswith("test_")]


def _size_for(selector: LayerSelector) -> tuple[int, int]:
    """Layers and experts of a toy that has as many as are asked for, where one does."""
    for layers, experts in TOY_SIZES:
        try:
            selector.fits(tuple(range(2, 2 + layers)), experts)
        except SettingError:
            continue
        return layers, experts
    return TOY_SIZES[0]


def check_contract(role: str, strategy: Any, told_by: str) -> None:
    """Refuse a strategy that breaks its role's contract.

    Args:
        role: one of ``CONTRACTS``.
        strategy: to be tested.
        told_by: the file or the name that ``c3po plugins check`` knows it by.

    Raises:
        PluginError: with all that does not hold.
    """
    broken = [found for found in findings(role, strategy) if found.outcome == "fails"]
    if broken:
        lines = [f"  {found.test}: {found.what} ({found.where})" for found in broken]
        raise PluginError(
            f"Expected {role} {strategy.name!r} to keep the contract of its role, in which "
            f"fail:\n"
            + "\n".join(lines)
            + f"\n{command(strategy, told_by)} says how to mend them; --unchecked runs it all the same."
        )


def command(strategy: Any, told_by: str) -> str:
    """The command that checks a strategy with the parameters that it has.

    Args:
        strategy: with its parameters.
        told_by: the file or the name that ``c3po plugins check`` knows it by.
    """
    try:
        usual = Registry.describe(type(strategy)())
    except TypeError:  # a parameter has no default
        usual = {}
    own = Registry.describe(strategy)
    changed = {name: value for name, value in own.items() if name != "name" and usual.get(name, MISSING) != value}
    if not changed:
        return f"c3po plugins check {shlex.quote(told_by)}"
    file = ["--plugin", told_by] if told_by.endswith(".py") else []
    settings = [word for name, value in changed.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    return shlex.join(["c3po", "plugins", "check", strategy.name, *file, *settings])


def parts(role: str, strategy: Any) -> Iterator[tuple[str, Any]]:
    """A strategy with its role, and those that it wraps with theirs."""
    yield role, strategy
    for field in fields(strategy):
        value = getattr(strategy, field.name)
        for name, (base, _) in ROLES.items():
            if isinstance(value, base):
                yield from parts(name, value)


def _found(name: str, test: Any, strategy: Any) -> Finding:
    title = _title(name)
    wanted, remedy = _wanted(test)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            test(strategy)
    except SkipTest as reason:
        return Finding(title, "does not apply", wanted, str(reason))
    except LabelError as error:  # whichever test meets it, this is what does not hold
        contract = type(test.__self__)
        wanted, remedy = _wanted(contract.test_does_not_look_at_the_label)
        title = _title("test_does_not_look_at_the_label")
        return Finding(title, "fails", wanted, str(error), place_of(error, type(strategy)), remedy)
    except Exception as error:
        remedy = remedy if isinstance(error, AssertionError) else "Correct that line."
        return Finding(title, "fails", wanted, _said(error), place_of(error, type(strategy)), remedy)
    return Finding(title, "holds", wanted)


def _title(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def _wanted(test: Any) -> tuple[str, str]:
    """What a test's documentation says has to hold, and how to mend what does not."""
    wanted, _, remedy = (inspect.getdoc(test) or "").replace("``", "`").partition("\n\n")
    return " ".join(wanted.split()), " ".join(remedy.split())


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}"
