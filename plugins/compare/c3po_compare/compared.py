"""``c3po compare``: what a protocol asks of runs, as a summary, a page and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from c3po_adaptive.errors import SettingError
from c3po_adaptive.report import COLORS, Mark, forest, standalone
from c3po_adaptive.study import Table, check_ours, digest_of_file, holds, out_folder, read_yaml, write_text

from .curve import curves
from .kept_answers import read_runs
from .named_comparisons import NamedComparisons
from .named_verdict import SCALES
from .paired_runs import Run
from .protocol import Forest, Protocol
from .records import Compared, ComparedSummary
from .rules import rules

SUMMARY, PAGE = "summary.json", "comparisons.md"
COLUMNS = ("on", "a − b", "n", "units", "difference [95 %]", "p", "verdict")


def read_protocol(path: Path | str) -> Protocol:
    """A protocol's file.

    Raises:
        SettingError: there is none, it holds something else, or it names other rules than those that judge here.
    """
    protocol = Protocol.of(read_yaml(path))
    if protocol.rules not in (None, rules()):
        raise SettingError(
            f"Expected the rules {protocol.rules}, by which {path} is to be judged, got {rules()}; install the version "
            "that it was written with, or name these rules and say so."
        )
    return protocol


def compare(runs: Sequence[str | Path], protocol: Path, out: Path | None = None) -> ComparedSummary:
    """What a protocol asks of runs.

    Args:
        runs: as of ``answers``.
        protocol: its file.
        out: folder that gets ``summary.json``, ``comparisons.md`` and the pictures, if given.

    Raises:
        SettingError: the protocol is none, asks one comparison in two ways, or, with ``out``, for an empty forest.
        UnknownNameError: it names what the answers do not have.
        DataError: the runs cannot be read or compared, or ``out`` cannot be written, or holds files of others.
    """
    asked = read_protocol(protocol)
    if out is not None:
        out_folder(out)
        ours = holds(out / SUMMARY, ComparedSummary.model_fields)
        check_ours(out, [SUMMARY, PAGE, *(f"{name}.svg" for name in (*asked.forests, *asked.curves))], lambda _: ours)
    read = read_runs(*runs)
    of = NamedComparisons(asked, read)
    found = ComparedSummary(
        protocol=asked.model_dump(mode="json", exclude_defaults=True),
        hashes={"protocol": digest_of_file(protocol), "rules": rules()},
        models=tuple(of.answers.models),
        comparisons=tuple(of.made(asked.unit)),
        second=tuple(made_again(asked, read)),
        rows=tuple(of.rows()),
        curves={name: tuple(of.curve(curve)) for name, curve in asked.curves.items()},
        left_out=tuple(dict.fromkeys(of.left_out)),
    )
    if out is not None:
        pictures = pictures_of(found, asked)
        write_text(out / SUMMARY, found.model_dump_json(indent=1) + "\n")
        write_text(out / PAGE, page_of(found))
        for name, picture in pictures.items():
            write_text(out / f"{name}.svg", standalone(picture))
    return found


def made_again(asked: Protocol, runs: Sequence[Run]) -> list[Compared]:
    """All comparisons over the second unit, or by the wider interval."""
    if asked.second_unit is None and asked.interval == "wider":
        return []
    other = asked if asked.second_unit else asked.model_copy(update={"interval": "wider"})
    return NamedComparisons(other, runs).made(asked.second_unit or asked.unit, second=True)


def pictures_of(found: ComparedSummary, protocol: Protocol) -> dict[str, str]:
    """Forests and curves, by name.

    Raises:
        SettingError: a forest has nothing to draw.
    """
    drawn = {}
    for name, wanted in protocol.forests.items():
        some = [one for one in found.comparisons if _is_drawn(one, wanted)]
        if not some:
            raise SettingError(
                f"Expected comparisons to draw in the forest {name!r}, got none; correct its families, parts, a, b "
                f"or measure. There are the parts {', '.join(dict.fromkeys(one.on for one in found.comparisons))}."
            )
        several = len({one.on for one in some}) > 1
        marks = [
            Mark(
                f"{one.on}: {one.a} − {one.b}" if several else f"{one.a} − {one.b}",
                *(one.difference, one.ci_low, one.ci_high),
                COLORS["method" if one.primary else "base"],
                one.within,
                _digits(one.measure),
            )
            for one in some
        ]
        unit = f"{SCALES[wanted.measure][2]}, 95 % interval"
        drawn[name] = forest(marks, unit, "Differences of two sides each, with 95 % intervals", wide=True)
    for name, curve in protocol.curves.items():
        unit = f"{SCALES[curve.measure][2]} over {curve.b}"
        label = f"Differences to {curve.b} by {curve.x}, with 95 % intervals"
        drawn[name] = curves(found.curves[name], curve.x, unit, label, log=curve.log)
    return drawn


def _is_drawn(one: Compared, forest: Forest) -> bool:
    wanted = ((family_of(one), forest.families), (one.on, forest.parts), (one.a, forest.a), (one.b, forest.b))
    return one.measure == forest.measure and all(not names or own in names for own, names in wanted)


def family_of(one: Compared) -> str:
    """Under what it is told."""
    return "primary" if one.primary else one.family or "not tested"


def table_of(found: ComparedSummary) -> Table:
    """What the terminal shows: all comparisons, and what may be said of the primary ones."""
    said = [one.sentence for one in found.comparisons if one.primary]
    if found.left_out:
        said.append(f"Left out, for a side has no answers there: {len(found.left_out)} comparisons (named in --out).")
    return Table(COLUMNS, [_cells(one) for one in found.comparisons], said)


def page_of(found: ComparedSummary) -> str:
    """The same in Markdown, family by family, with every sentence."""
    parts = ["# Comparisons", f"Protocol `{found.hashes['protocol'][:12]}`, rules `{found.hashes['rules']}`."]
    second = found.protocol.get("second_unit")
    again = f", over {second}s" if second else ", by the wider of t and a bootstrap"
    for title, several in (("", found.comparisons), (again, found.second)):
        for family in dict.fromkeys(family_of(one) for one in several):
            own = [one for one in several if family_of(one) == family]
            parts += [f"## {family.capitalize()}{title}", _markdown([_cells(one) for one in own])]
            parts += ["\n".join(f"- {one.sentence}" for one in own)]
    if found.left_out:
        parts += ["## Left out", "\n".join(f"- {said}." for said in found.left_out)]
    return "\n\n".join(parts) + "\n"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [COLUMNS, ("---", "---", "---:", "---:", "---:", "---:", "---"), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def _cells(one: Compared) -> list[str]:
    digits, test = _digits(one.measure), {"superiority": "", "equivalence": " (±{})", "noninferiority": " (> −{})"}
    ends = (f"{value:+.{digits}f}".replace("-", "−") for value in (one.difference, one.ci_low, one.ci_high))
    difference, low, high = ends
    pair = f"{one.a} − {one.b}{test[one.test].format(f'{one.within or 0:g}')}"
    measure = "" if one.measure == "correct" else f" {SCALES[one.measure][2]}"
    cells = [one.on, pair, str(one.n), f"{one.units} {one.unit}s", f"{difference} [{low}, {high}]{measure}"]
    return [*cells, f"{one.p_holm:.2g}", one.verdict]


def _digits(measure: str) -> int:
    return 1 if measure == "correct" else 3
