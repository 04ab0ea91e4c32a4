"""``c3po trace diff`` of two sets of routes: traces in folders, or two models on the same texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from c3po_benchmarks import texts_of

from c3po_adaptive import bar
from c3po_adaptive.cli import LoadOptions, print_table, say

from .agreement import Agreement, Part, agreement, partners, recorded_by
from .agreement_words import beginnings, called, heading, shares

if TYPE_CHECKING:
    from c3po_adaptive import RoutedModel


def of_folders(one: str, other: str, load: Callable[[], RoutedModel] | None) -> Agreement:
    """Of the traces in two folders that are of the same tokens.

    Raises:
        SettingError: some have no partner, or cannot be held against it.
        DataError: no traces there.
    """
    pairs = partners(one, other)  # refused before a model is loaded
    return agreement(pairs, model=None if load is None else load())


def of_models(
    one: tuple[str, LoadOptions], other: tuple[str, LoadOptions], source: str, limit: int | None
) -> Agreement:
    """Of two models, each by how it is loaded, on the same texts; one after another, so that one fits at a time.

    Raises:
        DataError: as ``texts_of``; or a text that a model cannot read.
        SettingError: they read other tokens, or have other layers or experts.
    """
    texts = texts_of(source, limit=limit)
    second = recorded_by(other[1].load(other[0]), texts, bar)
    model = one[1].load(one[0])
    first = recorded_by(model, texts, bar)
    return agreement(zip(first, second, strict=True), model=model)


def say_agreement(found: Agreement, folders: tuple[str, str] | None = None) -> None:
    """For people: of whom, in all, by layer, by how near to a tie, and where texts begin to differ."""
    one, other = called(found)
    if folders is not None:
        one, other = f"{folders[0]}, of {one}", f"{folders[1]}, of {other}"
    say(f"one: {one}; other: {other}")
    for line in heading(found):
        say(line)
    load = dict(zip(map(str, found.layers), found.load, strict=True))
    print_table(
        ["layer", "experts", "by chance", "same set", "load elsewhere"],
        [[*shares(part), f"{100 * load[part.name]:.1f} %"] for part in found.by_layer],
    )
    for what, parts in (("token's place", found.by_token), ("router's margin", found.by_margin)):
        if parts:
            print_table([what, "places", "experts", "by chance", "same set"], [_row(part) for part in parts])
    for line in beginnings(found):
        say(line)


def _row(part: Part) -> list[str]:
    name, *each = shares(part)
    return [name, str(part.places), *each]
