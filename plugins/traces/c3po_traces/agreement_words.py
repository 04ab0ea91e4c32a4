"""An agreement in sentences, for a notebook and a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agreement import Agreement, Mean, Part

SHOWN = 5
"""Layers that are named."""
UNKNOWN = "an unknown model"


def in_words(found: Agreement) -> str:
    """All of it in a few lines, however many layers there are."""
    one, other = called(found)
    least = sorted(found.by_layer, key=lambda part: part.same)[:SHOWN]
    lines = [f"Agreement of {one} and {other}:", *heading(found)]
    for what, parts in (("layer", least), ("router's margin", found.by_margin)):
        if parts:
            each = ", ".join(f"{part.name}: {100 * part.same:.1f} %" for part in parts)
            lines.append(f"the same set by {what}{', the fewest' * (what == 'layer')}: {each}")
    return "\n  ".join(lines + beginnings(found))


def called(found: Agreement) -> tuple[str, str]:
    """The two models."""
    return found.names[0] or UNKNOWN, found.names[1] or UNKNOWN


def heading(found: Agreement) -> list[str]:
    """How much was held against each other, and what it comes to, a line each."""
    places = sum(part.places for part in found.by_layer)
    lines = [f"{found.texts} text{'s' * (found.texts != 1)}, {places} places (a token in a layer) in both"]
    chance = f"{100 * found.chance:.1f} % by chance"
    lines += [
        f"experts that both use: {_percent(found.experts)}, {chance}; the same set: {_percent(found.same)} of places"
    ]
    if found.weights is not None:
        lines.append(f"weight on other experts: {_percent(found.weights)}")
    if found.nats is not None:
        lines.append(f"log-likelihood of a token along the other's routes: {_signed(found.nats)} nats")
    return lines


def beginnings(found: Agreement) -> list[str]:
    """Where texts begin to differ; nothing, where none does."""
    if not found.beginnings:
        return []
    begins = ", ".join(f"{piece!r} {count}" for piece, count in found.pieces())
    return [f"{len(found.beginnings)} of {found.texts} texts differ; the tokens where most begin to: {begins}"]


def shares(part: Part) -> list[str]:
    """Of a table: its name, the share of experts, that by chance, and the share of sets."""
    return [part.name, *(f"{100 * share:.1f} %" for share in (part.experts, part.chance, part.same))]


def _percent(mean: Mean) -> str:
    return f"{100 * mean.value:.1f} %" + _interval(mean, "{:.1f}", 100)


def _signed(mean: Mean) -> str:
    return f"{mean.value:+.4f}" + _interval(mean, "{:+.4f}", 1)


def _interval(mean: Mean, how: str, scale: float) -> str:
    """Of 95 %; nothing for one text."""
    if mean.low != mean.low:
        return ""
    return f" [{how.format(scale * mean.low)}, {how.format(scale * mean.high)}]"
