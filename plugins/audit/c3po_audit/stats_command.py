"""The command that counts the routing of a set of texts, or of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from c3po_adaptive import SettingError, bar
from c3po_adaptive.cli import AsJson, Format, ModelOptions, Picture, clear_errors, print_json, print_table, say

if TYPE_CHECKING:
    from c3po_adaptive import RoutedModel

    from .load_difference import LoadDifference
    from .statistics import RoutingStatistics

KINDS = 12
"""Kinds on a terminal."""
BUSIEST = 2
"""Experts of a layer, there."""
UNKNOWN = "–"


def stats(
    sets: Annotated[
        list[str],
        typer.Argument(
            metavar="SET [OTHER]",
            help='A folder of traces; texts: .txt, a line a text, .jsonl, {"text": …}, - for standard input, '
            "texts:OWNER/NAME:COLUMN:SPLIT of the Hub, or a text itself; or questions: a file, a benchmark, bed:NAME, "
            "demo. Two are held side by side; files of traces are one set.",
        ),
    ],
    *,
    split: Annotated[str | None, typer.Option(help="Which split of questions.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many texts of each set, spread over it.")] = None,
    picture: Picture = None,
    other_model: Annotated[
        str | None, typer.Option(help="Run the set on this model, too; the two are held side by side.")
    ] = None,
    model: ModelOptions,
    format: Format = "cloze",
    as_json: AsJson = False,
) -> None:
    """How texts use a model's experts: load, hot experts, evenness, pairs; by layer, kind and position.

    Traces need no model; texts and questions are run on --model.
    """
    with clear_errors():
        from c3po_adaptive import as_format
        from c3po_adaptive.pictures import check_picture, save_picture

        from .routing_sets import routing_statistics, trace_files

        wanted = _sets(sets)
        if picture is not None:
            check_picture(picture)
        put, found = as_format(format), []
        loaded: RoutedModel | None = None
        for source in wanted:
            if loaded is None and trace_files(source) is None:
                _check(source, split, limit)
                loaded = model.loaded()
            found.append(routing_statistics(source, loaded, split=split, limit=limit, format=put, progress=bar))
        if other_model is not None:
            if len(wanted) > 1 or loaded is None:
                raise SettingError(
                    "Expected one set of questions or texts beside --other-model, got two, or traces; leave it out."
                )
            second = replace(model, model=other_model).loaded()
            found.append(routing_statistics(wanted[0], second, split=split, limit=limit, format=put, progress=bar))
        one, other = found[0], found[1] if len(found) > 1 else None
        difference = None if other is None else one.against(other)
        if picture is not None:
            say(f"Picture: {save_picture(one.plot(other), picture)}", err=as_json)
        if as_json:
            print_json(one.values() if other is None or difference is None else _values(one, other, difference))
        elif other is None or difference is None:
            _say_one(one)
        else:
            _say_two(one, other, difference)


def _sets(given: list[str]) -> list[str | list[str]]:
    """One set or two of what the command line names.

    Raises:
        SettingError: more.
    """
    from c3po_adaptive.models.traced import is_trace

    if len(given) > 1 and all(Path(name).is_file() and is_trace(Path(name)) for name in given):
        return [given]
    if len(given) > 2:
        raise SettingError(
            f"Expected one set or two, or several files of traces, got {len(given)}, of which some are no traces; put "
            "the files of a set into a folder."
        )
    return list(given)


def _check(source: str | list[str], split: str | None, limit: int | None) -> None:
    """Refuse a source of questions that there is not before the model is loaded."""
    from c3po_benchmarks import holds_texts

    from c3po_adaptive.tasks import ASKED, questions

    from .routing_sets import is_text

    if isinstance(source, str) and not (holds_texts(source) or is_text(source)):
        questions(source, split=split, limit=limit, usual=ASKED)


def _values(one: RoutingStatistics, other: RoutingStatistics, difference: LoadDifference) -> dict[str, object]:
    from .statistics import apart_values

    changed = [change._asdict() for change in difference.most_changed()]
    told = {"paired": difference.paired is not None, **apart_values(difference), "most_changed": changed}
    return {"one": one.values(), "other": other.values(), **told}


def _say_one(found: RoutingStatistics) -> None:
    say(found)
    whole = found.whole
    rows = []
    for row, layer in enumerate(found.layers):
        load, wide = whole.load[row], whole.margins[row]
        busy = ", ".join(f"{e}: {_share(load[e], wide[e])}" for e in (-load).argsort(kind="stable")[:BUSIEST].tolist())
        rows.append([str(layer), str(len(whole.hot[row])), f"{whole.evenness[row]:.2f}", busy])
    print_table(["layer", "experts for 80 %", "evenness", "busiest: share of the load"], rows)
    if pairs := found.pairs():
        say("experts that are used together most, beside chance:")
    for pair in pairs:
        say(
            f"  layer {pair.layer}: {pair.experts[0]} and {pair.experts[1]}, {pair.lift:.1f} times as often as by "
            f"chance, {100 * pair.share:.1f} % of tokens"
        )
    places = [[name, str(load.tokens), _hot(load.hot), _mean(load.evenness)] for name, load in found.positions.items()]
    print_table(["position", "tokens", "experts for 80 %", "evenness"], places)
    if found.kinds:
        order = sorted(found.kinds, key=lambda kind: -float(found.kinds_apart[kind].apart.mean()))
        kinds = [
            [
                kind or "(none)",
                str(found.kinds[kind].texts),
                str(found.kinds[kind].tokens),
                *_apart(found.kinds_apart[kind]),
            ]
            for kind in order[:KINDS]
        ]
        print_table(["kind", "texts", "tokens", "elsewhere", "by chance"], kinds)
        _say_unknown(kinds)
        if len(order) > KINDS:
            say(f"… and {len(order) - KINDS} kinds more (--json)")
        say("elsewhere: the share of its load that is on other experts than all other kinds', mean over layers")


def _say_two(one: RoutingStatistics, other: RoutingStatistics, difference: LoadDifference) -> None:
    for found in (one, other):
        say(found)
    rows = []
    for row, layer in enumerate(one.layers):
        each = [text for s in (one, other) for text in (str(len(s.whole.hot[row])), f"{s.whole.evenness[row]:.2f}")]
        moved = f"{100 * difference.apart[row]:.1f} %", _percent(float(difference.by_chance[row]))
        rows.append([str(layer), *each, *moved])
    print_table(["layer", "for 80 %", "evenness", "2nd: 80 %", "evenness", "elsewhere", "by chance"], rows)
    _say_unknown(rows)
    say("elsewhere: the share of the second set's load that is on other experts than the first's")
    say("experts whose load changes most:")
    for change in difference.most_changed():
        say(f"  {change.in_words}")
    for remark in difference.remarks:
        say(remark)


def _share(share: float, wide: float) -> str:
    """A share, with half its 95 % interval where that is known."""
    return f"{100 * share:.1f} %" if wide != wide else f"{100 * share:.1f} ± {100 * wide:.1f} %"


def _apart(difference: LoadDifference) -> tuple[str, str]:
    return f"{100 * difference.apart.mean():.1f} %", _percent(float(difference.by_chance.mean()))


def _percent(share: float) -> str:
    return UNKNOWN if share != share else f"{100 * share:.1f} %"


def _say_unknown(rows: Sequence[Sequence[str]]) -> None:
    """Why something is not known, where that is so."""
    if any(UNKNOWN in row for row in rows):
        say(f"{UNKNOWN}: not known of one text, as it takes two to see how far texts differ by chance")


def _hot(hot: tuple[tuple[int, ...], ...]) -> str:
    return f"{sum(map(len, hot)) / len(hot):.1f}"


def _mean(values: tuple[float, ...]) -> str:
    return f"{sum(values) / len(values):.2f}"
