"""Commands about strategies and the plugins that bring them."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UnknownNameError, suggestion
from ..storage.files import is_file, is_folder
from .options import AsJson, Plugins, SetOption, registry_with
from .terminal import App, clear_errors, print_json, print_table, say

if TYPE_CHECKING:
    from ..registry import Registration, Registry
    from ..testing.findings import Finding

app = App(help="Strategies, and where they come from.", no_args_is_help=True)


@app.command("list")
def plugins_list(plugin: Plugins = None, as_json: AsJson = False) -> None:
    """Every strategy by role, with where it comes from; then kinds of study, and sources of questions."""
    with clear_errors():
        from ..study.kinds import names_of_kinds
        from ..tasks.sources import prefixes

        registry = registry_with(plugin)
        found = registry.table()
        if as_json:
            print_json([{"role": e.role, "name": e.name, "from": e.plugin, "doc": e.doc} for e in found])
            return
        for role, entries in groupby(found, key=lambda entry: entry.role):
            print_table((role, "what it does"), [[f"{entry.name}\n({entry.plugin})", entry.doc] for entry in entries])
        say(f"Kinds of study: {', '.join(names_of_kinds(registry))}.")
        say(f"Sources of questions: demo, files, {', '.join(prefixes())}.")


@app.command("show")
def plugins_show(name: str, plugin: Plugins = None, as_json: AsJson = False) -> None:
    """A strategy's parameters with types, defaults and what is allowed, and what they mean."""
    with clear_errors():
        from .parameters import parameters

        registry = registry_with(plugin)
        entries = [entry for entry in registry.table() if entry.name == name]
        if not entries:
            known = sorted({entry.name for entry in registry.table()})
            controls = "name one of these. Controls, as shuffled labels, are settings: docs/explanation/controls.md."
            hint = suggestion(name, known, controls, "by c3po plugins list")
            raise UnknownNameError(f"Expected the name of a strategy, got {name!r}; {hint}")
        if as_json:
            shown = [(e, [asdict(parameter) for parameter in parameters(e)]) for e in entries]
            print_json(
                [{"role": e.role, "name": e.name, "from": e.plugin, "help": e.help, "parameters": p} for e, p in shown]
            )
            return
        for entry in entries:
            say(f"{entry.role} {entry.name} ({entry.plugin})\n\n{entry.help.partition('Attributes:')[0].rstrip()}\n")
            for parameter in parameters(entry):
                say(f"  {parameter}")


@app.command("check")
def plugins_check(
    what: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A strategy, an installed plugin, or a plugin file.")
    ],
    set: SetOption = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Hold strategies against the whole contract of their role, on toys: what holds, what does not, how to mend it."""
    with clear_errors():
        from ..testing.findings import findings

        of_file = what.endswith(".py") or is_file(Path(what))
        files = [*(plugin or []), *([Path(what)] if of_file else [])]
        registry = registry_with(files, installed=not of_file)  # a file is checked as it is, installed or not
        entries = _named(str(Path(what).expanduser().resolve()) if of_file else what, registry)
        checked = [(entry, list(findings(entry.role, _made(entry, registry, set or [])))) for entry in entries]
        if as_json:
            print_json([_plain(entry, found) for entry, found in checked])
        else:
            for entry, found in checked:
                _print(entry, found)
    if any(finding.outcome == "fails" for _, found in checked for finding in found):
        raise typer.Exit(1)


def _named(what: str, registry: Registry) -> list[Registration]:
    """The strategies of a plugin, or those of a name.

    Raises:
        UnknownNameError: there are none.
    """
    table = registry.table()
    if entries := [entry for entry in table if what in (entry.plugin, entry.name)]:
        return entries
    known = sorted({name for entry in table for name in (entry.name, entry.plugin)})
    inside = sorted(Path(what).glob("*.py")) if is_folder(Path(what)) else []
    written = [file for file in inside if not file.name.startswith(("test_", "conftest."))]
    hint = f"give {written[0]}." if written else suggestion(what, known, "name one of these.", "by c3po plugins list")
    raise UnknownNameError(f"Expected a strategy, an installed plugin, or a Python file, got {what!r}; {hint}")


def _made(entry: Registration, registry: Registry, settings: list[str]) -> Any:
    from ..study.overrides import with_settings
    from ..study.study_config import Spec

    return registry.create(entry.role, with_settings({"name": entry.name}, settings, Spec))


def _plain(entry: Registration, found: list[Finding]) -> dict[str, object]:
    return {"role": entry.role, "name": entry.name, "plugin": entry.plugin, "tests": [asdict(f) for f in found]}


def _print(entry: Registration, found: list[Finding]) -> None:
    failing = [f for f in found if f.outcome == "fails"]
    said = f"{len(failing)} of {len(found)} tests fail" if failing else "keeps the contract of its role"
    say(f"{entry.role} {entry.name} ({entry.plugin}): {said}")
    telling = any(f.outcome in ("fails", "remark") for f in found)
    columns = ("", "contract", "found, where, and how to mend") if telling else ("", "contract")
    details = ["\n".join(filter(None, (f.what, f.where, f.remedy))) for f in found]
    print_table(columns, [[f.outcome, f.wanted, what][: len(columns)] for f, what in zip(found, details, strict=True)])
