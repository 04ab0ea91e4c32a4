"""What plugins can bring: strategies of each role, and others by name; and what a strategy's class has to be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from inspect import isabstract, isclass
from typing import Any

from .. import elsewhere
from ..answerers.base import AnswererStrategy
from ..checks import types_of
from ..errors import PluginError, UnknownNameError, suggestion, with_article
from ..kernels.base import Kernel, Product, Sum
from ..optimizers.base import PathwayOptimizer
from ..retrievers.base import Retriever
from ..rules.base import NamedRule, Then
from ..selectors.base import LayerSelector

ROLES: dict[str, tuple[type, str]] = {
    "optimizer": (PathwayOptimizer, "register_optimizers"),
    "kernel": (Kernel, "register_kernels"),
    "retriever": (Retriever, "register_retrievers"),
    "selector": (LayerSelector, "register_layer_selectors"),
    "answerer": (AnswererStrategy, "register_answerers"),
    "rule": (NamedRule, "register_rules"),
}
"""Each role's base class, and the hook that registers its strategies."""

OTHERS = {
    "kind of study": "register_studies",
    "engine": "register_executors",
    "attack": "register_attacks",
    "report": "register_reports",
    "report of two": "register_side_by_side",
    "trace reader": "register_trace_readers",
    "trace writer": "register_trace_writers",
}
"""What plugins bring by name beside strategies, and the hook that registers it."""

COMPOSITES: dict[tuple[str, str], type] = {
    **{("kernel", cls.name): cls for cls in (Sum, Product)},
    ("rule", Then.name): Then,
}
"""Strategies that join two of their role; their names are reserved."""

REMEDY = "install or load the plugin that brings it (--plugin FILE)."


def base_of(role: str) -> type:
    """The class that strategies of a role are subclasses of.

    Raises:
        UnknownNameError: there is no such role.
    """
    if role not in ROLES:
        raise UnknownNameError(f"Expected a role, got {role!r}; {suggestion(role, ROLES)}")
    return ROLES[role][0]


def role_of(cls: object) -> str | None:
    """The role of a class, if it is one of a strategy."""
    return next((role for role, (base, _) in ROLES.items() if isclass(cls) and issubclass(cls, base)), None)


def check_class(role: str, cls: Any, plugin: str) -> None:
    """Refuse what is not a strategy of that role: a concrete frozen dataclass of the base, with a kebab-case name.

    Raises:
        PluginError: naming the plugin and what to correct.
    """
    base = base_of(role)
    if not (isclass(cls) and issubclass(cls, base)):
        raise PluginError(
            f"Expected {role}s of plugin {plugin!r} to be subclasses of {base.__name__}, got {cls!r}; "
            "return the class itself, from the hook of its role."
        )
    if isabstract(cls):
        methods = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise PluginError(f"Expected {cls!r} of plugin {plugin!r} to be complete, got no {methods}; write it.")
    # Looked up on the class alone: a parent's decorator says nothing about the fields added here.
    if not (is_dataclass(cls) and "__dataclass_params__" in vars(cls) and vars(cls)["__dataclass_params__"].frozen):
        raise PluginError(
            f"Expected {cls!r} of plugin {plugin!r} to be a frozen dataclass, got another class; "
            "decorate it with @dataclass(frozen=True): name and fields identify a run."
        )
    name = getattr(cls, "name", None)
    settable = any(field.name == "name" for field in fields(cls))
    if settable or not (isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name)):
        raise PluginError(
            f"Expected {cls!r} of plugin {plugin!r} to have a fixed kebab-case name, got "
            f'{"a field" if settable else repr(name)}; write for example name: ClassVar[str] = "my-method".'
        )
    types_of(cls)


def unknown(what: str, name: str, known: Sequence[str], remedy: str) -> UnknownNameError:
    """The error about a name that nobody brought, with the plugin that brings it where that is known.

    Args:
        what: is named: a role, or one of ``OTHERS``.
        name: that was asked for.
        known: names that there are.
        remedy: what to do where no name is near and no plugin known.
    """
    near = suggestion(name, known, f"take one of these, or {remedy}", "by c3po plugins list")
    hint = elsewhere.where(name, what) or (near if known else f"there are none; {remedy}")
    return UnknownNameError(f"Expected {with_article(what)}, got {name!r}; {hint}")
