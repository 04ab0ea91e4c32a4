"""Commands about strategies and the plugins that bring them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from ..errors import UnknownNameError, suggestion
from .shared import AsJson, Plugins, clear_errors, print_json, print_table, registry_with

app = typer.Typer(help="Strategies, and where they come from.", no_args_is_help=True)


@app.command("list")
def plugins_list(plugin: Plugins = None, as_json: AsJson = False) -> None:
    """Every strategy by role, with where it comes from."""
    with clear_errors():
        found = registry_with(plugin).table()
        if as_json:
            print_json([{"role": e.role, "name": e.name, "from": e.plugin, "doc": e.doc} for e in found])
            return
        rows = [[entry.role, entry.name, entry.plugin, entry.doc] for entry in found]
        print_table(("role", "name", "from", "what it does"), rows)


@app.command("show")
def plugins_show(name: str, plugin: Plugins = None, as_json: AsJson = False) -> None:
    """A strategy's parameters with types, defaults and what is allowed, and what they mean."""
    with clear_errors():
        from .parameters import parameters

        registry = registry_with(plugin)
        entries = [entry for entry in registry.table() if entry.name == name]
        if not entries:
            known = sorted({entry.name for entry in registry.table()})
            hint = suggestion(name, known, "c3po plugins list shows them all.")
            raise UnknownNameError(f"Expected the name of a strategy among {', '.join(known)}, got {name!r}; {hint}")
        if as_json:
            shown = [(e, [asdict(parameter) for parameter in parameters(e)]) for e in entries]
            print_json(
                [{"role": e.role, "name": e.name, "from": e.plugin, "help": e.help, "parameters": p} for e, p in shown]
            )
            return
        for entry in entries:
            typer.echo(
                f"{entry.role} {entry.name} ({entry.plugin})\n\n{entry.help.partition('Attributes:')[0].rstrip()}\n"
            )
            for parameter in parameters(entry):
                typer.echo(f"  {parameter}")


@app.command("check")
def plugins_check(file: Path) -> None:
    """Load a plugin file and say what it registers."""
    with clear_errors():
        registry = registry_with([file])
        for entry in registry.table():
            if entry.plugin == str(file.resolve()):
                typer.echo(f"{entry.role} {entry.name}: {entry.cls.__name__} loads; c3po_adaptive.testing tests it")
