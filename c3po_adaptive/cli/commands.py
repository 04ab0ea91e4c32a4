"""All commands of ``c3po``: ours, and those that installed plugins bring."""

from __future__ import annotations

import shlex
from pkgutil import resolve_name
from typing import Any

import typer
from typer.core import TyperGroup

from .. import moved
from ..storage.run_folder import COMMAND
from .options import grouped
from .terminal import App


class Commands(TyperGroup):
    """All commands, those of installed plugins behind our own; what is made while one is carried out can say which it
    was."""

    def list_commands(self, context: Any) -> list[str]:
        return [*super().list_commands(context), *_brought()]

    def get_command(self, context: Any, name: str) -> Any:
        ours = super().get_command(context, name)
        return _as_command(name, _brought()[name]) if ours is None and name in _brought() else ours

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        words = shlex.join(["c3po", *args]).encode(errors="replace").decode()  # no file holds half a character
        context = super().make_context(info_name, args, *rest, **extra)
        token = COMMAND.set(words)
        context.call_on_close(lambda: COMMAND.reset(token))
        return context

    def resolve_command(self, context: Any, args: list[str]) -> Any:
        if (now := moved.COMMANDS.get(args[0])) and not context.resilient_parsing:
            context.fail(f"No such command '{args[0]}' any more; {now}")
        return super().resolve_command(context, args)


def _brought() -> dict[str, str]:
    """Where the functions of installed plugins' commands are, by name."""
    from ..registry import default_registry

    registry = default_registry()
    return {name: registry.other("command", name) for name in registry.others("command")}


def _as_command(name: str, place: str) -> Any:
    alone = App()
    alone.command(name)(grouped(resolve_name(place)))
    return typer.main.get_command(alone)
