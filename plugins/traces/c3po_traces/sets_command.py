"""``c3po trace diff`` of two sets of routes: traces in folders, or two models on the same texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from c3po_benchmarks import texts_of

from c3po_adaptive import SettingError, bar
from c3po_adaptive.cli import LoadOptions, print_table, say

from .agreement import Agreement, Mean, Part, agreement, paired, recorded_by, traces_in

if TYPE_CHECKING:
    from c3po_adaptive import RoutedModel


def of_folders(one: str, other: str, load: Callable[[], RoutedModel] | None) -> Agreement:
    """Of the traces in two folders that are of the same tokens.

    Raises:
        SettingError: some have no partner, or cannot be held against it.
        DataError: no traces there.
    """
    pairs, alone = paired(traces_in(one), traces_in(other))
    if alone:
        raise SettingError(
            f"Expected traces of the same tokens in {one} and {other}, got {alone} without a partner beside "
            f"{len(pairs)} pairs; record the same texts with both, or move those away."
        )
    return agreement(pairs, None if load is None else load())


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
    return agreement(zip(first, second, strict=True), model)


def say_agreement(found: Agreement) -> None:
    """For people: in all, by layer, by how near to a tie, and where texts begin to differ."""
    say(f"{found.texts} texts, {sum(part.places for part in found.by_layer)} places (a token in a layer) in both")
    say(f"experts that both use: {_percent(found.experts)}; the same set: {_percent(found.same)} of places")
    if found.weights is not None:
        say(f"weight on other experts: {_percent(found.weights)}")
    if found.nats is not None:
        say(f"log-likelihood of a token along the other's routes: {_signed(found.nats)} nats")
    load = dict(zip(map(str, found.layers), found.load, strict=True))
    print_table(
        ["layer", "experts", "same set", "load elsewhere"],
        [[*_shares(part), f"{100 * load[part.name]:.1f} %"] for part in found.by_layer],
    )
    for what, parts in (("token's place", found.by_token), ("router's margin", found.by_margin)):
        if parts:
            print_table([what, "places", "experts", "same set"], [_row(part) for part in parts])
    if found.beginnings:
        begins = ", ".join(f"{piece!r} {count}" for piece, count in found.pieces())
        say(f"{len(found.beginnings)} of {found.texts} texts differ; the tokens where most begin to: {begins}")


def _shares(part: Part) -> list[str]:
    return [part.name, f"{100 * part.experts:.1f} %", f"{100 * part.same:.1f} %"]


def _row(part: Part) -> list[str]:
    name, *shares = _shares(part)
    return [name, str(part.places), *shares]


def _percent(mean: Mean) -> str:
    return f"{100 * mean.value:.1f} %" + _interval(mean, "{:.1f}", 100)


def _signed(mean: Mean) -> str:
    return f"{mean.value:+.4f}" + _interval(mean, "{:+.4f}", 1)


def _interval(mean: Mean, how: str, scale: float) -> str:
    """Of 95 %; nothing for one text."""
    if mean.low != mean.low:
        return ""
    return f" [{how.format(scale * mean.low)}, {how.format(scale * mean.high)}]"
