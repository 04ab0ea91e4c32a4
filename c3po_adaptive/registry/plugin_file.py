"""Plain Python files as modules: what is run is what is hashed, and nothing half-loaded stays."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

from ..errors import PluginError, raised_at
from ..storage.identity import digest


@contextmanager
def module_of(file: Path) -> Iterator[tuple[ModuleType, str]]:
    """A file as a module, and the hash of its text; it may import modules that lie beside it.

    Raises:
        PluginError: it cannot be imported, or the block raises: then the module is dropped.
    """
    # The path is part of the name: two files called alike are two modules.
    name = f"c3po_plugin_{file.stem}_{digest(str(file))[:8]}"
    spec = ModuleSpec(name, None, origin=str(file), is_package=True)
    spec.submodule_search_locations = [str(file.parent)]
    module = module_from_spec(spec)
    module.__file__ = str(file)
    _forget(name)
    sys.modules[name] = module  # dataclasses resolve their annotations there
    try:
        source = file.read_bytes()  # once: what is run is what is hashed, and no bytecode of an earlier text
        exec(compile(source, str(file), "exec"), module.__dict__)
        yield module, sha256(source).hexdigest()
    except (Exception, SystemExit) as error:
        _forget(name)
        if isinstance(error, PluginError):
            raise
        place = raised_at(error, str(file))  # none for a SyntaxError, which says its line itself
        raise broken(str(file), f"while loading, at {place}" if place else "while loading", error) from error


def _forget(name: str) -> None:
    """Drop a plugin file's module, and those from beside it: the next time they are what is on disk then."""
    for one in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        del sys.modules[one]


def broken(plugin: str, when: str, error: BaseException) -> PluginError:
    """The error about a plugin that raised."""
    return PluginError(
        f"Expected plugin {plugin!r} to work, got {type(error).__name__} {when}: {error}; "
        "correct the plugin, or remove it."
    )
