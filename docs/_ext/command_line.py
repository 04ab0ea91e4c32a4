"""``{command-line}``: every command, with its arguments and options, from the app itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from sphinx.application import Sphinx
from written import Written, table

from c3po_adaptive.cli import app as c3po


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """A command and those below it, by what is typed."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{path} {name}")


def _row(parameter: Any) -> list[str]:
    is_option = parameter.param_type_name == "option"
    names = (
        ", ".join(f"`{name}`" for name in parameter.opts)
        if is_option
        else f"`{parameter.metavar or parameter.name.upper()}`"
    )
    default = (
        "required" if parameter.required else "" if parameter.default in (None, False) else f"`{parameter.default}`"
    )
    return [names, default, getattr(parameter, "help", None) or ""]


class CommandLine(Written):
    """A section for each command."""

    def text(self) -> str:
        """Usage, what it does, and its parameters."""
        parts = []
        for path, command in commands(typer.main.get_command(c3po), "c3po"):
            rows = [_row(parameter) for parameter in command.params]
            below = "COMMAND …" if hasattr(command, "commands") else ""
            arguments = [p for p in command.params if p.param_type_name == "argument"]
            given = [a.metavar or a.name.upper() for a in arguments]
            shown = [name if a.required else f"[{name}]" for a, name in zip(arguments, given, strict=True)]
            usage = " ".join(filter(None, [path, *shown, "[OPTIONS]" if len(rows) > len(arguments) else "", below]))
            parts += [f"## {path}\n", f"{command.help}\n", f"```text\n{usage}\n```\n"]
            parts += [table(("", "default", ""), rows)] if rows else []
        return "\n".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
