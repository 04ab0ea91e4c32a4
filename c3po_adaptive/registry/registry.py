"""The registry: what plugins brought, by role and name."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import reduce
from importlib.metadata import EntryPoint, entry_points
from inspect import getsourcefile
from pathlib import Path
from typing import Any

import pluggy

from .. import hookspecs
from ..errors import PluginError, SettingError, UnknownNameError, with_article
from ..remixing.strategies import Strategies
from ..rules.base import Then
from ..rules.text import WRITTEN, rule_texts
from ..storage.files import is_file
from ..storage.identity import digest, digest_of_file, files_beside
from .brought import Registration, others_of, strategies_of
from .plugin_file import broken, module_of
from .roles import COMPOSITES, OTHERS, REMEDY, ROLES, base_of, unknown
from .specs import check_keys, describe, immutable, parts_of, rule_parameters

BUILTIN = "builtin"
"""The plugin that brings the package's own strategies."""


class ClashError(PluginError):
    """Two plugins, or strategies of two, have one name: which of them is meant nobody but the user can say."""


class Registry:
    """Strategies of the plugins that were registered with it; a new one is empty."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._table: dict[tuple[str, str], Registration] = {}
        self._others: dict[tuple[str, str], Any] = {}
        self._hashes: dict[str, dict[str, str]] = {}
        """Of each plugin that is not ours, installed or plain, the hash of each of its files, by name."""
        self._by_name: set[str] = set()
        """Installed plugins that bring strategies alone: they have no part where none of these is named."""
        self.ours = {BUILTIN}
        """Plugins that come with the package: its version tells them apart, and its tests hold their contracts."""
        self.paths: tuple[str, ...] = ()
        """Of these files, in order: what another process has to load to have the same strategies."""
        self.beside: dict[str, tuple[Path, ...]] = {}
        """Of each of them, what it imported from beside it."""
        self.left_out: dict[str, str] = {}
        """What is wrong with each installed plugin that is left out."""

    def __repr__(self) -> str:
        return f"Registry({', '.join(f'{len(self.names(role))} {role}s' for role in ROLES)})"

    @property
    def files(self) -> dict[str, str]:
        """Hash of each file of plugins, plain or installed, by its name: another text makes another run.

        Files of one name in several folders have one hash of them all, whatever their order.
        """
        return self._files(self._hashes)

    def files_of(self, used: Iterable[Any]) -> dict[str, str]:
        """Those of ``files`` that have a part in a run: of installed plugins that bring strategies alone, those of the
        ones that ``used`` strategies are, name, or inherit from.
        """
        words = {*re.findall(r"[a-z0-9-]+", json.dumps([describe(strategy) for strategy in used]))}
        named = [entry.cls for entry in self._table.values() if entry.name in words]
        met = {e.plugin for e in self._table.values() if any(issubclass(cls, e.cls) for cls in named)}
        return self._files(plugin for plugin in self._hashes if plugin in met or plugin not in self._by_name)

    def _files(self, plugins: Iterable[str]) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for plugin in plugins:
            for name, own in self._hashes[plugin].items():
                found.setdefault(name, []).append(own)
        return {name: own[0] if len(own) == 1 else digest(sorted(own)) for name, own in found.items()}

    def register(self, plugin: Any, name: str) -> None:
        """Add what a module or object with ``hookimpl`` functions brings; all of it, or nothing.

        Raises:
            PluginError: if it breaks the contract, clashes with a plugin before it, or raises.
        """
        if self._manager.has_plugin(name) or self._manager.is_registered(plugin):
            raise ClashError(f"Expected each plugin once, got {name!r} again; remove one of the two.")
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
            strategies, others = self._strategies(plugin, name), self._brought(plugin, name)
            if not (strategies or others):
                raise PluginError(
                    f"Expected plugin {name!r} to register at least one strategy, got none; "
                    f"mark a function such as {ROLES['optimizer'][1]} with @hookimpl and return a list of classes."
                )
            self._table |= strategies
            self._others |= others
        except BaseException as error:
            self._manager.unregister(name=name)
            if isinstance(error, pluggy.PluginValidationError):
                hooks = ", ".join([*(hook for _, hook in ROLES.values()), *OTHERS.values()])
                raise PluginError(
                    f"Expected the hooks of plugin {name!r} to be among {hooks}, without arguments; got: "
                    f"{' '.join(str(error).split())}; correct the function's name and arguments."
                ) from error
            raise

    def load_file(self, path: str | Path) -> None:
        """Add what a plain Python file brings; it may import modules that lie beside it (``from .other import …``).

        Raises:
            PluginError: as for ``register``, and if the file cannot be imported.
        """
        place = Path(os.path.expanduser(path))
        file = place.resolve() if is_file(place) else place
        if not (is_file(file) and file.suffix == ".py"):
            raise PluginError(f"Expected a Python file, got {str(path)!r}; give the path of an existing .py file.")
        if self._is_there(file):
            return
        if str(file) in self.paths:
            raise PluginError(
                f"Expected each plugin once, got {str(file)!r} again; remove one of the two, or, where the file has "
                "changed, load it into a new_registry()."
            )
        with module_of(file) as (module, own):
            self.register(module, str(file))
            beside = files_beside(module.__name__)
            whole = digest([own, *map(digest_of_file, beside)]) if beside else own
            self._hashes[str(file)] = {file.name: whole}
            self.paths = (*self.paths, str(file))
            self.beside[str(file)] = tuple(beside)

    def _is_there(self, file: Path) -> bool:
        """Whether an installed plugin is this file, or a copy of it."""
        sources = {
            getsourcefile(entry.cls) for entry in self._table.values() if entry.plugin not in (BUILTIN, *self.paths)
        }
        copies = (Path(source) for source in sources if source and Path(source).name == file.name)
        return any(digest_of_file(copy) == digest_of_file(file) for copy in copies)

    def load_installed(self) -> None:
        """Add the plugins of installed packages: the entry points of group ``c3po_adaptive``.

        One that does not work is left out with a warning: most runs do not name what it brings.

        Raises:
            PluginError: two of them clash.
        """
        for point in sorted(entry_points(group=hookspecs.PROJECT)):
            try:
                self._load(point)
            except PluginError as error:
                package = None if point.dist is None else point.dist.name
                if isinstance(error, ClashError) or package == hookspecs.PROJECT:
                    raise
                self.left_out[point.name] = str(error)
                warnings.warn(f"{error} Until then it is left out (pip uninstall {package}).", stacklevel=2)

    def _load(self, point: EntryPoint) -> None:
        """Add the plugin of an installed package; errors as for ``register``, and if it cannot be imported."""
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:
            raise broken(f"{point.name} = {point.value}", "while loading", error) from error
        before = len(self._others)
        self.register(plugin, point.name)
        if point.dist is not None and point.dist.name == hookspecs.PROJECT:
            self.ours.add(point.name)
            return
        sources = {entry.module: getsourcefile(entry.cls) for entry in self.table() if entry.plugin == point.name}
        if sources:  # readers of traces have no part in a run
            own = {_name_in_package(module, Path(source)): Path(source) for module, source in sources.items() if source}
            self._hashes[point.name] = {name: digest_of_file(file) for name, file in own.items()}
            if len(self._others) == before:
                self._by_name.add(point.name)

    def names(self, role: str) -> list[str]:
        """The strategies of a role, sorted; not the composites "sum", "product" and "then", which need parts."""
        base_of(role)
        return sorted(name for r, name in self._table if r == role)

    def strategies(self, specs: Mapping[str, object]) -> Strategies:
        """The four strategies of re-mixing from a spec for each role; errors as for ``create``."""
        return Strategies(**{f.name: self.create(f.name, specs[f.name]) for f in fields(Strategies)})

    def get(self, role: str, name: str) -> type[Any]:
        """The class of that name.

        Raises:
            UnknownNameError: if there is none; it suggests close names.
        """
        if entry := self._table.get((role, name)):
            return entry.cls  # type: ignore[no-any-return]
        if composite := COMPOSITES.get((role, name)):
            return composite
        known = self.names(role) + [name for r, name in COMPOSITES if r == role != "rule"]  # rules are joined by ;
        raise self._unknown(role, name, known)

    def other(self, what: str, name: str) -> Any:
        """What a plugin brought under that name, of one of ``OTHERS``.

        Raises:
            UnknownNameError: nothing; it says what brings it, if that is known.
        """
        if (what, name) in self._others:
            return self._others[what, name]
        raise self._unknown(what, name, self.others(what))

    def _unknown(self, what: str, name: str, known: Sequence[str]) -> UnknownNameError:
        """The error about a name that nobody brought, with what is wrong with plugins that might have."""
        error = unknown(what, name, known, REMEDY)
        said = [f"The plugin {plugin!r} is left out: {wrong}" for plugin, wrong in self.left_out.items()]
        return UnknownNameError(" ".join([str(error), *said]))

    def others(self, what: str) -> list[str]:
        """Names of what plugins brought of one of ``OTHERS``, sorted."""
        return sorted(name for of, name in self._others if of == what)

    def create(self, role: str, spec: Any) -> Any:
        """A strategy from its name, from a mapping of its name and parameters, or as it is if it is one already.

        Parameters that are strategies themselves may be named in the same three ways. A rule may also be named with its
        parameters in one text (``ban:3,5@16-20``), and several rules by a text that joins them, or by a list.

        Raises:
            UnknownNameError: if there is no strategy of that name.
            SettingError: if a parameter is unknown, missing or refused.
        """
        base = base_of(role)
        if isinstance(spec, base):
            return spec
        if role == "rule" and isinstance(spec, str | list | tuple):
            parts = self._rules(spec) if isinstance(spec, str) else spec
            if parts:
                return reduce(Then, [self.create(role, part) for part in parts])
        if isinstance(spec, str):
            spec = {"name": spec}
        if not (isinstance(spec, Mapping) and isinstance(spec.get("name"), str)):
            if role == "rule" and not isinstance(spec, Mapping):
                hint = f"did you mean 'ban:{spec}'?" if type(spec) is int else "write it so."
                raise SettingError(f"Expected a rule such as {WRITTEN}; got {spec!r}; {hint}")
            raise SettingError(
                f'Expected {with_article(role)} as a name, a mapping with "name", or a {base.__name__} object, '
                f'got {spec!r}; write for example {{"name": "{(self.names(role) or [role])[0]}"}}.'
            )
        cls = self.get(role, spec["name"])
        parameters = {key: value for key, value in spec.items() if key != "name"}
        check_keys(role, cls, parameters)
        for key, (part, may_be_none) in parts_of(cls).items():
            if key in parameters and not (parameters[key] is None and may_be_none):
                parameters[key] = self.create(part, parameters[key])
        try:
            return cls(**{key: immutable(value) for key, value in parameters.items()})
        except TypeError as error:
            raise SettingError(
                f"Expected parameters that {role} {cls.name!r} can work with, got {parameters!r} ({error}); "
                "see its documentation for their kinds."
            ) from error

    describe = staticmethod(describe)

    def _rules(self, text: str) -> list[dict[str, object]]:
        """Name and parameters of each rule that a text joins."""
        return [rule_parameters(self.get("rule", one.name), one) for one in rule_texts(text)]

    def table(self) -> list[Registration]:
        """All that is registered, by role and name."""
        order = list(ROLES)
        return sorted(self._table.values(), key=lambda entry: (order.index(entry.role), entry.name))

    def _strategies(self, plugin: Any, name: str) -> dict[tuple[str, str], Registration]:
        """Those that a plugin brings, none of which may be called like one that is there already."""
        found: dict[tuple[str, str], Registration] = {}
        for entry in strategies_of(self._manager, plugin, name):
            key = (entry.role, entry.name)
            if key in COMPOSITES:
                raise PluginError(f"Expected a name other than the reserved {key[1]!r}, got {entry.origin}; rename it.")
            if other := self._table.get(key) or found.get(key):
                installed = Path(name).name == f"{other.module.rpartition('.')[2]}.py"  # from another text of the file
                hint = "leave the file out, and install it again if it was changed: pip install -e sees each change"
                raise ClashError(
                    f"Expected one {entry.role} called {entry.name!r}, got {other.origin} and {entry.origin}; "
                    f"{hint if installed else 'rename one of them, or remove its plugin'}."
                )
            found[key] = entry
        return found

    def _brought(self, plugin: Any, name: str) -> dict[tuple[str, str], Any]:
        """What it brings beside, likewise."""
        found: dict[tuple[str, str], Any] = {}
        for what, key, value in others_of(self._manager, plugin, name):
            if (what, key) in (self._others | found):
                raise ClashError(
                    f"Expected one {what} called {key!r}, got another of plugin {name!r}; rename it, or remove "
                    "one of the plugins."
                )
            found[what, key] = value
        return found


def _name_in_package(module: str, file: Path) -> str:
    """Of a module's file: its path from where packages are installed on."""
    return "/".join(file.parts[-1 - module.count(".") - (file.stem == "__init__") :])
