"""Strategies by name, from the built-ins, installed plugins and plain files.

Kinds of study, engines, attacks, reports and readers of traces, which plugins may bring, are registered by name, too.

An experiment must never run a method that nobody chose, so nothing is renamed or replaced here. An installed plugin
that does not work is left out with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ..rules.base import NamedRule
from .brought import Registration
from .registry import BUILTIN, Registry
from .roles import OTHERS, ROLES, check_class, unknown
from .specs import in_words, said_of

__all__ = ["BUILTIN", "OTHERS", "ROLES", "Registration", "Registry", "check_class", "default_registry", "in_words"]
__all__ += ["new_registry", "rule_named", "said_of", "unknown"]


def new_registry(*, installed: bool = True) -> Registry:
    """A fresh registry with the built-ins and, by default, the plugins of installed packages."""
    from .. import builtin

    registry = Registry()
    registry.register(builtin, BUILTIN)
    if installed:
        registry.load_installed()
    return registry


@cache
def default_registry() -> Registry:
    """The process's registry, built once."""
    return new_registry()


def rule_named(
    rule: str | Mapping[str, object] | Sequence[Any] | NamedRule, registry: Registry | None = None
) -> NamedRule:
    """A rule by name, for wherever a rule goes: ``model.forward(text, routing=rule_named("ban:3,5@16-20;top-k:1"))``.

    Args:
        rule: ``NAME:WHAT@LAYERS``, several joined by semicolons; or ``{"name": …, parameters}``; or a list of these.
        registry: what names are looked up in; default: built-ins and plugins of installed packages.

    Raises:
        UnknownNameError: there is no rule of that name.
        SettingError: a text that is no rule, or a parameter that is unknown, missing or refused.
    """
    made: NamedRule = (registry or default_registry()).create("rule", rule)
    return made
