"""Strategies by name, from the built-ins, installed plugins and plain files; anything doubtful raises.

Kinds of study, engines, attacks, reports and readers of traces, which plugins may bring, are kept by name, too.

An experiment must never run a method that nobody chose, so nothing is renamed, skipped or replaced here.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache, reduce
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from importlib.util import module_from_spec
from inspect import formatannotation, getdoc, getsourcefile, isabstract, isclass
from pathlib import Path
from typing import Any

import pluggy

from . import elsewhere, hookspecs
from .answerers.base import AnswererStrategy
from .errors import PluginError, SettingError, UnknownNameError, raised_at, suggestion
from .kernels.base import Kernel, Product, Sum
from .optimizers.base import PathwayOptimizer
from .remixing.strategies import Strategies
from .retrievers.base import Retriever
from .rules.base import NamedRule, Then
from .rules.text import RuleText, rule_texts
from .selectors.base import LayerSelector
from .storage.files import is_file
from .storage.identity import digest, digest_of_file, files_beside

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
    "trace reader": "register_trace_readers",
    "trace writer": "register_trace_writers",
}
"""What plugins bring by name beside strategies, and the hook that registers it."""

REMEDY = "install or load the plugin that brings it (--plugin FILE)."

BUILTIN = "builtin"
"""The plugin that brings the package's own strategies."""

_COMPOSITES: dict[tuple[str, str], type] = {
    **{("kernel", cls.name): cls for cls in (Sum, Product)},
    ("rule", Then.name): Then,
}


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
        """The first line of the class's documentation."""
        return (getdoc(self.cls) or "").partition("\n")[0]

    @property
    def help(self) -> str:
        """All of the class's documentation."""
        return getdoc(self.cls) or ""

    @property
    def parameters(self) -> dict[str, object]:
        """What it can be made with, and the defaults; MISSING where there is none."""
        return {f.name: _default(f) for f in fields(self.cls) if f.init and f.repr}

    @property
    def origin(self) -> str:
        return f"{self.module}.{self.cls.__name__} (plugin {self.plugin!r})"


class Registry:
    """Strategies of the plugins that were registered with it; a new one is empty."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._table: dict[tuple[str, str], Registration] = {}
        self._others: dict[tuple[str, str], Any] = {}
        self._hashes: dict[str, list[str]] = {}
        self.ours = {BUILTIN}
        """Plugins that come with the package: its version tells them apart, and its tests hold their contracts."""
        self.paths: tuple[str, ...] = ()
        """Of these files, in order: what another process has to load to have the same strategies."""
        self.beside: dict[str, tuple[Path, ...]] = {}
        """Of each of them, what it imported from beside it."""

    @property
    def files(self) -> dict[str, str]:
        """Hash of each plain file, by its name, and of each installed plugin: another text makes another run.

        Files of one name in several folders have one hash of them all, whatever their order.
        """
        return {name: own[0] if len(own) == 1 else digest(sorted(own)) for name, own in self._hashes.items()}

    def register(self, plugin: Any, name: str) -> None:
        """Add what a module or object with ``hookimpl`` functions brings; all of it, or nothing.

        Raises:
            PluginError: if it breaks the contract, clashes with a plugin before it, or raises.
        """
        if self._manager.has_plugin(name) or self._manager.is_registered(plugin):
            raise PluginError(f"Expected each plugin once, got {name!r} again; remove one of the two.")
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
            strategies, others = self._collect(plugin, name), self._collect_others(plugin, name)
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
        given = Path(os.path.expanduser(path))
        file = given.resolve() if is_file(given) else given
        if not (is_file(file) and file.suffix == ".py"):
            raise PluginError(f"Expected a Python file, got {str(path)!r}; give the path of an existing .py file.")
        if self._is_there(file):
            return
        # The path is part of the name: two files called alike are two modules.
        module_name = f"c3po_plugin_{file.stem}_{digest(str(file))[:8]}"
        spec = ModuleSpec(module_name, None, origin=str(file), is_package=True)
        spec.submodule_search_locations = [str(file.parent)]
        module = module_from_spec(spec)
        module.__file__ = str(file)
        _forget(module_name)
        sys.modules[module_name] = module  # dataclasses resolve their annotations there
        try:
            source = file.read_bytes()  # once: what is run is what is hashed, and no bytecode of an earlier text
            exec(compile(source, str(file), "exec"), module.__dict__)
            self.register(module, str(file))
            own = sha256(source).hexdigest()
            beside = files_beside(module_name)
            whole = digest([own, *map(digest_of_file, beside)]) if beside else own
            self._hashes.setdefault(file.name, []).append(whole)
            self.paths = (*self.paths, str(file))
            self.beside[str(file)] = tuple(beside)
        except Exception as error:
            _forget(module_name)
            if isinstance(error, PluginError):
                raise
            place = raised_at(error, str(file))  # none for a SyntaxError, which says its line itself
            when = f"while loading, at {place}" if place else "while loading"
            raise PluginError(_raised(str(file), when, error)) from error

    def _is_there(self, file: Path) -> bool:
        """Whether an installed plugin is this file, or a copy of it."""
        sources = {
            getsourcefile(entry.cls) for entry in self._table.values() if entry.plugin not in (BUILTIN, *self.paths)
        }
        copies = (Path(source) for source in sources if source and Path(source).name == file.name)
        return any(digest_of_file(copy) == digest_of_file(file) for copy in copies)

    def load_installed(self) -> None:
        """Add the plugins of installed packages: the entry points of group ``c3po_adaptive``.

        Raises:
            PluginError: as for ``register``, and if one cannot be imported.
        """
        for point in sorted(entry_points(group=hookspecs.PROJECT)):
            try:
                plugin = point.load()
            except Exception as error:
                raise PluginError(_raised(f"{point.name} = {point.value}", "while loading", error)) from error
            self.register(plugin, point.name)
            if point.dist is not None and point.dist.name == hookspecs.PROJECT:
                self.ours.add(point.name)
                continue
            sources = {getsourcefile(entry.cls) for entry in self._table.values() if entry.plugin == point.name}
            if sources:  # readers of traces have no part in a run
                own = digest(sorted(digest_of_file(Path(file)) for file in sources if file))
                self._hashes.setdefault(point.name, []).append(own)

    def names(self, role: str) -> list[str]:
        """The strategies of a role, sorted; not the composites "sum", "product" and "then", which need parts."""
        _check_role(role)
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
        if composite := _COMPOSITES.get((role, name)):
            return composite
        known = self.names(role) + [name for r, name in _COMPOSITES if r == role != "rule"]  # rules are joined by ;
        raise unknown(role, name, known, REMEDY)

    def other(self, what: str, name: str) -> Any:
        """What a plugin brought under that name, of one of ``OTHERS``.

        Raises:
            UnknownNameError: nothing; it says what brings it, if that is known.
        """
        if (what, name) in self._others:
            return self._others[what, name]
        raise unknown(what, name, self.others(what), REMEDY)

    def others(self, what: str) -> list[str]:
        """Names of what plugins brought of one of ``OTHERS``, sorted."""
        return sorted(name for of, name in self._others if of == what)

    def create(self, role: str, spec: Any) -> Any:
        """A strategy from its name, from a mapping of its name and parameters, or as it is if it is one already.

        Parameters that are strategies themselves may be given in the same three ways. A rule may also be named with its
        parameters in one text (``ban:3,5@16-20``), and several rules by a text that joins them, or by a list.

        Raises:
            UnknownNameError: if there is no strategy of that name.
            SettingError: if a parameter is unknown, missing or refused.
        """
        base = _check_role(role)
        if isinstance(spec, base):
            return spec
        if role == "rule" and isinstance(spec, str | list | tuple):
            parts = [self._rule(one) for one in rule_texts(spec)] if isinstance(spec, str) else spec
            if parts:
                return reduce(Then, [self.create(role, part) for part in parts])
        if isinstance(spec, str):
            spec = {"name": spec}
        if not (isinstance(spec, Mapping) and isinstance(spec.get("name"), str)):
            raise SettingError(
                f'Expected a {role} as a name, a mapping with "name", or a {base.__name__} object, got {spec!r}; '
                f'write for example {{"name": "{(self.names(role) or [role])[0]}"}}.'
            )
        cls = self.get(role, spec["name"])
        given = {key: value for key, value in spec.items() if key != "name"}
        parameters = {f.name: f for f in fields(cls) if f.init}
        if unknown := sorted(given.keys() - parameters, key=str):
            raise SettingError(
                f"Expected parameters of {role} {cls.name!r}, got {unknown[0]!r}; "
                + suggestion(str(unknown[0]), parameters, _inside(cls, str(unknown[0])))
            )
        required = [n for n, f in parameters.items() if f.default is MISSING and f.default_factory is MISSING]
        if missing := [n for n in required if n not in given]:
            raise SettingError(
                f"Expected {role} {cls.name!r} with {', '.join(required)}, got no {', '.join(missing)}; write "
                + (f"{cls.name}:…." if role == "rule" else f'{{"name": "{cls.name}", "{missing[0]}": ...}}.')
            )
        for key, part in _nested_roles(cls).items():
            if key in given and not (given[key] is None and parameters[key].default is None):
                given[key] = self.create(part, given[key])
        try:
            return cls(**{key: _immutable(value) for key, value in given.items()})
        except TypeError as error:
            raise SettingError(
                f"Expected parameters that {role} {cls.name!r} can work with, got {given!r} ({error}); "
                "see its documentation for their kinds."
            ) from error

    def _rule(self, text: RuleText) -> dict[str, object]:
        """The name and parameters of one rule that a text names."""
        cls = self.get("rule", text.name)
        if cls is Then:
            raise SettingError(
                f"Expected a rule, got {text.name!r}, which joins two; write these with ; between them: ban:3;top-k:1."
            )
        given = {} if text.what is None else dict(cls.read(text.what))
        return {"name": text.name, **given} | ({} if text.layers is None else {"layers": text.layers})

    @staticmethod
    def describe(strategy: Any) -> dict[str, Any]:
        """What identifies a strategy in a record: its name and parameters; ``create`` makes it again from that.

        Fields declared with ``repr=False`` are learned state, not parameters, and left out.

        Raises:
            SettingError: if a parameter cannot be written as JSON.
        """
        description = {"name": strategy.name}
        for field in fields(strategy):
            value = getattr(strategy, field.name)
            if field.repr:
                description[field.name] = Registry.describe(value) if _is_strategy(value) else value
        try:
            return json.loads(json.dumps(description, allow_nan=False))  # type: ignore[no-any-return]
        except (TypeError, ValueError) as error:
            raise SettingError(
                f"Expected parameters of {strategy.name!r} that can be written as JSON, got {description!r} ({error}); "
                "use numbers, strings and tuples, and declare learned state with field(repr=False)."
            ) from error

    def table(self) -> list[Registration]:
        """All that is registered, by role and name."""
        order = list(ROLES)
        return sorted(self._table.values(), key=lambda entry: (order.index(entry.role), entry.name))

    def _collect(self, plugin: Any, name: str) -> dict[tuple[str, str], Registration]:
        """What a plugin registers, checked against the contract and against what is there already."""
        found: dict[tuple[str, str], Registration] = {}
        for entry in self._entries(plugin, name):
            key = (entry.role, entry.name)
            if key in _COMPOSITES:
                raise PluginError(f"Expected a name other than the reserved {key[1]!r}, got {entry.origin}; rename it.")
            if other := self._table.get(key) or found.get(key):
                raise PluginError(
                    f"Expected one {entry.role} called {entry.name!r}, got {other.origin} and {entry.origin}; "
                    "rename one of them, or remove its plugin."
                )
            found[key] = entry
        return found

    def _entries(self, plugin: Any, name: str) -> Iterator[Registration]:
        for role, (_, hook) in ROLES.items():
            for classes in self._returned(plugin, name, hook):
                if not isinstance(classes, list | tuple):
                    raise PluginError(
                        f"Expected {hook} of plugin {name!r} to return a list of classes, got {classes!r}; "
                        "return [YourClass]."
                    )
                for cls in classes:
                    check_class(role, cls, name)
                    yield Registration(role, cls, name)

    def _collect_others(self, plugin: Any, name: str) -> dict[tuple[str, str], Any]:
        """What it brings beside strategies; what each has to be, whoever uses it knows."""
        found: dict[tuple[str, str], Any] = {}
        for what, hook in OTHERS.items():
            for brought in self._returned(plugin, name, hook):
                if not (isinstance(brought, Mapping) and all(isinstance(key, str) for key in brought)):
                    raise PluginError(
                        f"Expected {hook} of plugin {name!r} to return a mapping by name, got {brought!r}; "
                        'return {"a-name": …}.'
                    )
                for key, value in brought.items():
                    if (what, key) in (self._others | found):
                        raise PluginError(
                            f"Expected one {what} called {key!r}, got another of plugin {name!r}; rename it, or remove "
                            "one of the plugins."
                        )
                    found[what, key] = value
        return found

    def _returned(self, plugin: Any, name: str, hook: str) -> Iterator[Any]:
        # Hooks are called one plugin at a time, not through manager.hook, to know whose result is wrong.
        implementations = [i for i in getattr(self._manager.hook, hook).get_hookimpls() if i.plugin is plugin]
        if hasattr(plugin, hook) and not implementations:
            raise PluginError(
                f"Expected {hook} of plugin {name!r} to be marked, got a function that would never be called; "
                "write @hookimpl above it."
            )
        for implementation in implementations:
            try:
                yield implementation.function()
            except Exception as error:
                place = raised_at(error, getsourcefile(implementation.function))
                when = f"in {hook}, at {place}" if place else f"in {hook}"
                raise PluginError(_raised(name, when, error)) from error


def _forget(module_name: str) -> None:
    """Drop a plugin file's module, and those from beside it: the next time they are what is on disk then."""
    for name in [name for name in sys.modules if name == module_name or name.startswith(f"{module_name}.")]:
        del sys.modules[name]


def check_class(role: str, cls: Any, plugin: str) -> None:
    """Refuse what is not a strategy of that role: a concrete frozen dataclass of the base, with a kebab-case name.

    Raises:
        PluginError: naming the plugin and what to correct.
    """
    base = _check_role(role)
    if not (isclass(cls) and issubclass(cls, base)):
        raise PluginError(
            f"Expected {role}s of plugin {plugin!r} to be subclasses of {base.__name__}, got {cls!r}; "
            "return the class itself, from the hook of its role."
        )
    if isabstract(cls):
        methods = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise PluginError(f"Expected {cls!r} of plugin {plugin!r} to be complete, got no {methods}; write it.")
    if role in ("kernel", "retriever") and hasattr(cls, "learn"):
        raise PluginError(
            f"Expected {cls!r} of plugin {plugin!r} to learn by prepare, got learn, which is called prepare now, as "
            "in every role; rename it, and let it take a ReferenceFeatures."
        )
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


def new_registry(*, installed: bool = True) -> Registry:
    """A fresh registry with the built-ins and, by default, the plugins of installed packages."""
    from . import builtin

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
    article = "an" if what[0] in "aeiou" else "a"
    return UnknownNameError(f"Expected {article} {what}, got {name!r}; {hint}")


def _check_role(role: str) -> type:
    if role not in ROLES:
        raise UnknownNameError(f"Expected a role, got {role!r}; {suggestion(role, ROLES)}")
    return ROLES[role][0]


def _nested_roles(cls: type) -> dict[str, str]:
    """The fields of a strategy that hold another one, such as a wrapper's, and the role of each."""
    roles = {base.__name__: role for role, (base, _) in ROLES.items()}
    # Read, not resolved: a plugin may import what it annotates with for type checkers only.
    types = {
        f.name: formatannotation(f.type).strip("'").removesuffix(" | None").rpartition(".")[2] for f in fields(cls)
    }
    return {key: roles[hint] for key, hint in types.items() if hint in roles}


def _inside(cls: type, parameter: str) -> str:
    """What to do about a parameter that a part of the strategy has, or nobody."""
    for f in fields(cls):
        part = _default(f)
        if _is_strategy(part) and parameter in {inner.name for inner in fields(part)}:
            return f'it is a parameter of its part: {{"{f.name}": {{"name": "{part.name}", "{parameter}": …}}}}.'
    return "remove it."


def in_words(strategy: Any) -> str:
    """Its name, with the parameters that are not the defaults; None limits nothing: "all"."""
    changed = []
    for f in fields(strategy):
        value = getattr(strategy, f.name)
        if f.repr and f.init and value != _default(f):
            shown = "all" if value is None else in_words(value) if _is_strategy(value) else value
            changed.append(f"{f.name} {shown}")
    return f"{strategy.name} ({', '.join(changed)})" if changed else str(strategy.name)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _is_strategy(value: Any) -> bool:
    return isinstance(value, tuple(base for base, _ in ROLES.values()))


def _immutable(value: Any) -> Any:
    """YAML and JSON have no tuples; a frozen dataclass holds no lists."""
    return tuple(map(_immutable, value)) if isinstance(value, list) else value


def _raised(plugin: str, when: str, error: Exception) -> str:
    return (
        f"Expected plugin {plugin!r} to work, got {type(error).__name__} {when}: {error}; "
        "correct the plugin, or remove it."
    )
