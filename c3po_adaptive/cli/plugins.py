"""Commands about strategies and the plugins that bring them."""

from __future__ import annotations

from dataclasses import MISSING
from pathlib import Path

import typer

from ..errors import UnknownNameError
from .shared import Plugins, clear_errors, print_table, registry_with

app = typer.Typer(help="Strategies, and where they come from.", no_args_is_help=True)


@app.command("list")
def plugins_list(plugin: Plugins = None) -> None:
    """Every strategy by role, with where it comes from."""
    with clear_errors():
        found = registry_with(plugin).table()
        rows = [[entry.role, entry.name, entry.plugin, entry.doc] for entry in found]
        print_table(("role", "name", "from", "what it does"), rows)


@app.command("show")
def plugins_show(name: str, plugin: Plugins = None) -> None:
    """A strategy's parameters with their defaults, and what they mean."""
    with clear_errors():
        registry = registry_with(plugin)
        entries = [entry for entry in registry.table() if entry.name == name]
        if not entries:
            known = ", ".join(sorted({entry.name for entry in registry.table()}))
            raise UnknownNameError(f"Expected the name of a strategy among {known}, got {name!r}.")
        for entry in entries:
            typer.echo(f"{entry.role} {entry.name} ({entry.plugin})\n\n{entry.help}\n")
            for key, value in entry.parameters.items():
                typer.echo(f"  {key}: {'must be given' if value is MISSING else repr(value)}")


@app.command("check")
def plugins_check(file: Path) -> None:
    """Load a plugin file and say what it registers."""
    with clear_errors():
        registry = registry_with([file])
        for entry in registry.table():
            if entry.plugin == str(file.resolve()):
                typer.echo(f"{entry.role} {entry.name}: {entry.cls.__name__} loads; c3po_adaptive.testing tests it")
