"""Which layers are trained."""

from __future__ import annotations

from typing import Any, Literal

from ..errors import SettingError

Layers = Literal["all", "last-five"] | tuple[int, ...]


def check_layers(strategy: Any) -> None:
    """Refuse ``layers`` that is neither a word for some nor a list of numbers; a list becomes a tuple.

    Raises:
        SettingError: it is anything else.
    """
    if isinstance(strategy.layers, list):  # what YAML gives
        object.__setattr__(strategy, "layers", tuple(strategy.layers))
    given = strategy.layers
    listed = isinstance(given, tuple) and bool(given) and all(type(x) is int for x in given)
    if not listed and given not in ("all", "last-five"):
        raise SettingError(
            f"Expected {strategy.name}.layers to be all, last-five or a list of layer numbers, got {given!r}."
        )


def chosen(layers: Layers, known: tuple[int, ...], what: str) -> tuple[int, ...]:
    """Those that ``layers`` means among the ``known`` ones, which are called ``what``.

    Raises:
        SettingError: a number that is none of them.
    """
    if isinstance(layers, tuple):
        if missing := sorted(set(layers) - set(known)):
            raise SettingError(f"Expected layers among the {what} {known}, got {missing}.")
        return tuple(sorted(set(layers)))
    return known if layers == "all" else known[-5:]
