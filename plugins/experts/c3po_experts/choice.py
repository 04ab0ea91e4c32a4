"""Experts as a text names them: ``least:2`` and ``most:2`` of each layer, ``costly:4`` of all, or ``3,5@16``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from c3po_adaptive import SettingError

Place = tuple[int, int]
"""Of an expert: its layer, and its number there."""

FORM = re.compile(r"(least|most|costly):([1-9]\d*)|(\d+(?:,\d+)*)@(\d+)")
USUAL = "most:1"
"""Those that get adapters, where nothing is said."""
WRITTEN = "least:2 or most:2 of each layer, costly:4 of those banned, or 3,5@16: experts 3 and 5 of layer 16"


def chosen(
    which: str | Sequence[str], order: Mapping[int, Sequence[int]], costs: Mapping[Place, float] | None = None
) -> list[Place]:
    """The experts that are meant, each once.

    Args:
        which: a text, or several.
        order: of each layer its experts, from the one that would be missed least on.
        costs: of those whose ban was tried.

    Raises:
        SettingError: another text; or experts or layers that there are not, or costs that are not known.
    """
    texts = [which] if isinstance(which, str) else which
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise SettingError(f"Expected experts as {WRITTEN}; got {which!r:.60}; write them so.")
    return list(dict.fromkeys(place for text in texts for place in _meant(text, order, costs or {})))


def by_layer(places: Iterable[Place]) -> dict[int, list[int]]:
    """Experts of each layer, in order."""
    found: dict[int, list[int]] = {}
    for layer, expert in sorted(places):
        found.setdefault(layer, []).append(expert)
    return found


def _meant(text: str, order: Mapping[int, Sequence[int]], costs: Mapping[Place, float]) -> Iterator[Place]:
    if (match := FORM.fullmatch(text.strip())) is None:
        raise SettingError(f"Expected experts as {WRITTEN}; got {text!r}; write them so.")
    kind, count, experts, layer = match.groups()
    if kind == "costly":
        if int(count) > len(costs):
            raise SettingError(
                f"Expected at most {len(costs)} for {text!r}, the experts whose ban was tried; ban more: --ban, or "
                'ban="most:2" in Python.'
            )
        yield from sorted(costs, key=lambda place: -costs[place])[: int(count)]
    elif kind:
        if int(count) > (most := min(map(len, order.values()))):
            raise SettingError(f"Expected at most {most} for {text!r}, the experts of a layer; name fewer.")
        some = slice(int(count)) if kind == "least" else slice(-int(count), None)
        yield from ((layer, expert) for layer, each in order.items() for expert in each[some])
    else:
        places = [(int(layer), int(expert)) for expert in experts.split(",")]
        if missing := [place for place in places if place[1] not in order.get(place[0], ())]:
            raise SettingError(
                f"Expected experts 0 to {min(map(len, order.values())) - 1} of the MoE layers "
                f"{', '.join(map(str, order))} for {text!r}, got expert {missing[0][1]} of layer {missing[0][0]}; "
                "name some of these."
            )
        yield from places
