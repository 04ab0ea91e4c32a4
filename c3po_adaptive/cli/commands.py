"""All commands of ``c3po``: ours, and those that installed plugins bring."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from .. import elsewhere
from ..errors import PluginError
from ..storage.run_folder import COMMAND
from .options import grouped
from .terminal import App, clear_errors

GROUP = "c3po_adaptive.commands"
ANY_WORDS = {"ignore_unknown_options": True, "allow_extra_args": True}


class Group(TyperGroup):
    """A group of commands, such as those of ``trace``: ours, and behind them those of entry points ``trace.NAME``."""

    def list_commands(self, context: Any) -> list[str]:
        return list(dict.fromkeys([*super().list_commands(context), *_brought(self._within)]))

    def get_command(self, context: Any, name: str) -> Any:
        if (ours := super().get_command(context, name)) is not None:
            return ours  # others are not looked for, which takes longer than most of ours
        with clear_errors():
            return _as_command(name, brought[name]) if name in (brought := _brought(self._within)) else None

    @property
    def _within(self) -> str:
        return self.name or ""


class Commands(Group):
    """All commands; what is made while one is carried out can say which it was."""

    @property
    def _within(self) -> str:
        return ""

    def get_command(self, context: Any, name: str) -> Any:
        found = super().get_command(context, name)
        if found is None and (hint := elsewhere.where(name, "command")):
            context.fail(f"Expected a command that is installed, got {name!r}; {hint}")
        return found

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        words = shlex.join(["c3po", *args]).encode(errors="replace").decode()  # no file holds half a character
        context = super().make_context(info_name, args, *rest, **extra)
        token = COMMAND.set(words)
        context.call_on_close(lambda: COMMAND.reset(token))
        return context


def _brought(within: str) -> dict[str, EntryPoint]:
    """Commands of installed packages, in a group or outside: entry points of ``c3po_adaptive.commands``, functions as
    typer takes them, or groups of these. They are loaded without the registry: what is not asked for loads nothing
    heavy."""
    named = [(*point.name.rpartition("."), point) for point in sorted(entry_points(group=GROUP))]
    return {name: point for group, _, name, point in named if group == within}


def _as_command(name: str, point: EntryPoint) -> Any:
    alone = App(add_completion=False)
    try:
        function = elsewhere.loaded(point, f"the command {point.name!r}")
    except PluginError as error:  # the list of all commands has a place for it
        alone.command(name, help=str(error), context_settings=ANY_WORDS)(_failing(error))
        return typer.main.get_command(alone)
    if isinstance(function, typer.Typer):  # a group of commands
        alone.add_typer(function, name=name, cls=Group)
        return typer.main.get_group(alone).commands[name]
    alone.command(name)(grouped(function))
    return typer.main.get_command(alone)


def _failing(error: PluginError) -> Callable[[], None]:
    """A command that ends with an error."""

    def fail() -> None:
        with clear_errors():
            raise error

    return fail
