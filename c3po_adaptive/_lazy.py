"""Public names of a package, each imported when it is asked for; the imports that type checkers read are the list."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from .elsewhere import added, loaded
from .errors import suggestion

CORE = "c3po_adaptive"


def homes(file: str) -> dict[str, str]:
    """Where each public name of a file is from: those that it imports ``as`` themselves, for type checkers or at once.

    Sorted: constants, classes, functions.
    """
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    blocks = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.If))]
    found = {
        alias.name: "." * node.level + (node.module or "")
        for block in blocks
        for node in block
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    return dict(sorted(found.items(), key=lambda one: (not one[0].isupper(), not one[0][0].isupper(), one[0])))


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """A package's ``__getattr__``, ``__dir__`` and ``__all__``."""
    table = homes(file)

    def get(name: str) -> Any:
        if name in table:
            value = getattr(import_module(table[name], package), name)
        elif package == CORE and not name.startswith("_") and (point := added(name)) is not None:
            value = loaded(point, f"the name {name}")
        else:
            hint = suggestion(name, table, "name one of these.", f"by dir({package})")
            raise AttributeError(f"module {package!r} has no attribute {name!r}; {hint}")
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: list(table), list(table)
