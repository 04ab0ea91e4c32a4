"""What a plugin's hooks return, checked against the contract."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from inspect import getdoc, getsourcefile
from typing import Any

import pluggy

from ..checks import default_of
from ..errors import PluginError, raised_at
from .plugin_file import broken
from .roles import OTHERS, ROLES, check_class


@dataclass(frozen=True)
class Registration:
    """A registered strategy class, and the plugin that brought it."""

    role: str
    cls: Any
    plugin: str

    @property
    def name(self) -> str:
        return str(self.cls.name)

    @property
    def module(self) -> str:
        return str(self.cls.__module__)

    @property
    def doc(self) -> str:
        """The beginning of the class's documentation, to the first line that ends a sentence."""
        return " ".join(re.split(r"(?m)(?<=\.)$|^$", self.help, maxsplit=1)[0].split())

    @property
    def help(self) -> str:
        """All of the class's documentation."""
        return getdoc(self.cls) or ""

    @property
    def parameters(self) -> dict[str, object]:
        """What it can be made with, and the defaults; MISSING where there is none."""
        return {f.name: default_of(f) for f in fields(self.cls) if f.init and f.repr}

    @property
    def origin(self) -> str:
        return f"{self.module}.{self.cls.__name__} (plugin {self.plugin!r})"


def strategies_of(manager: pluggy.PluginManager, plugin: Any, name: str) -> Iterator[Registration]:
    """The strategies that a plugin brings.

    Raises:
        PluginError: if it breaks the contract, or raises.
    """
    for role, (_, hook) in ROLES.items():
        for classes in _returned(manager, plugin, name, hook):
            if not isinstance(classes, list | tuple):
                raise PluginError(
                    f"Expected {hook} of plugin {name!r} to return a list of classes, got {classes!r}; "
                    "return [YourClass]."
                )
            for cls in classes:
                check_class(role, cls, name)
                yield Registration(role, cls, name)


def others_of(manager: pluggy.PluginManager, plugin: Any, name: str) -> Iterator[tuple[str, str, Any]]:
    """What it brings beside strategies, and its name; what each has to be, whoever uses it knows.

    Raises:
        PluginError: if it breaks the contract, or raises.
    """
    for what, hook in OTHERS.items():
        for brought in _returned(manager, plugin, name, hook):
            if not (isinstance(brought, Mapping) and all(isinstance(key, str) for key in brought)):
                raise PluginError(
                    f"Expected {hook} of plugin {name!r} to return a mapping by name, got {brought!r}; "
                    'return {"a-name": …}.'
                )
            yield from ((what, key, value) for key, value in brought.items())


def _returned(manager: pluggy.PluginManager, plugin: Any, name: str, hook: str) -> Iterator[Any]:
    # Hooks are called one plugin at a time, not through manager.hook, to know whose result is wrong.
    implementations = [i for i in getattr(manager.hook, hook).get_hookimpls() if i.plugin is plugin]
    if hasattr(plugin, hook) and not implementations:
        raise PluginError(
            f"Expected {hook} of plugin {name!r} to be marked, got a function that would never be called; "
            "write @hookimpl above it."
        )
    for implementation in implementations:
        try:
            yield implementation.function()
        except (Exception, SystemExit) as error:
            place = raised_at(error, getsourcefile(implementation.function))
            raise broken(name, f"in {hook}, at {place}" if place else f"in {hook}", error) from error
