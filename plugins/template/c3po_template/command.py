"""``c3po plugins new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from c3po_adaptive.cli import PATH, clear_errors, say


def new(
    name: Annotated[str, typer.Argument(help="In kebab case: my-method.")],
    role: Annotated[str, typer.Option(help="optimizer, kernel, retriever, selector, answerer or rule.")],
    out: Annotated[Path | None, typer.Option("--out", **PATH, help="A new folder; default: the name.")] = None,
) -> None:
    """Write a small package with a strategy that works: source, its contract as tests, entry point, CI."""
    with clear_errors():
        from c3po_adaptive import default_registry

        from .new_plugin import new_plugin

        files = new_plugin(name, role, Path(name) if out is None else out, default_registry())
        for file in files:
            say(str(file))
        source = next(file for file in files if file.suffix == ".py" and not file.name.startswith("test_"))
        say(f"\nNext: change {source}, then c3po plugins check {source}")
