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
    if hasattr(command, "list_commands"):  # companions' commands are found when they are asked for
        for name in command.list_commands(None):
            yield from commands(command.get_command(None, name), f"{path} {name}")


def _row(parameter: Any) -> list[str]:
    is_option = parameter.param_type_name == "option"
    names = parameter.opts if is_option else [_argument(parameter)]
    usual = parameter.show_default if isinstance(parameter.show_default, str) else parameter.default
    given = "" if usual is None or usual is False else f"`{usual}`"
    default = "required" if parameter.required else given
    return [", ".join(f"`{name}`" for name in names), default, getattr(parameter, "help", None) or ""]


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _usage(path: str, command: Any) -> str:
    """As it is typed."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    given = [_argument(one) if one.required else f"[{_argument(one)}]" for one in arguments]
    options = ["[OPTIONS]"] if len(command.params) > len(arguments) else []
    return " ".join([path, *given, *options, *(["COMMAND …"] if hasattr(command, "commands") else [])])


class CommandLine(Written):
    """A section for each command."""

    def text(self) -> str:
        """Usage, what it does, and its parameters."""
        parts = []
        for path, command in commands(typer.main.get_command(c3po), "c3po"):
            rows = [_row(parameter) for parameter in command.params if not parameter.hidden]
            parts += [f"## {path}\n", f"{command.help}\n", f"`{_usage(path, command)}`\n"]
            parts += [table(("", "default", ""), rows)] if rows else []
        return "\n".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
