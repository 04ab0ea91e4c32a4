"""Two comparisons side by side: what changed from one run to the other, arm by arm."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from os.path import lexists
from pathlib import Path
from types import MappingProxyType
from typing import Any

from c3po_adaptive.analysis import DatasetsInWords, records_in
from c3po_adaptive.errors import DataError, SettingError, suggestion
from c3po_adaptive.report import draw
from c3po_adaptive.study import Table, check_ours, claimed_config, command_line, holds, made_by, out_folder, write_text

from .paired_runs import Run
from .records import SideRow, TwoRuns
from .side_by_side import differing, side_by_side

COLUMNS = ("data set", "arm", "n", "chance", "A", "B", "B − A [95 %]", "p (Holm)", "up/down", "cost, B over A")
SUMMARY, REPORT = "summary.json", "report.html"
RUN = ("records.jsonl", "config.json")
"""What lies in the folder of a run."""
SHOWN = 60  # characters of a value


def compare_runs(
    a: Path,
    b: Path,
    out: Path | None = None,
    *,
    arms: Mapping[str, str] = MappingProxyType({}),
    datasets: Mapping[str, str] = MappingProxyType({}),
) -> TwoRuns:
    """The summary of two runs, finished or not: see ``side_by_side``; ``fields`` are those that differ, ``references``
    those of each data set in either.

    Args:
        a: the folder of one.
        b: that of another.
        out: gets ``summary.json`` and ``report.html``, if given.
        arms: what those of ``a`` are called in ``b``, where they are called otherwise.
        datasets: likewise.

    Raises:
        SettingError: one of these names is none of its run.
        DataError: a folder holds no run, they share no questions, or ``out`` cannot be written, holds a run or files
            of others, or is a project's or your home.
    """
    if out is not None:
        _check_out(out)
    one = claimed_config(a)
    other = _renamed_config(claimed_config(b), arms, datasets)
    records, others = records_in(a), records_in(b)
    for what, pairs in (("arm", arms), ("dataset", datasets)):
        _check_named(what, pairs.keys(), {getattr(r, what) for r in records}, a)
        _check_named(what, pairs.values(), {getattr(r, what) for r in others}, b)
    called = [{"arm": _called(r.arm, arms), "dataset": _called(r.dataset, datasets)} for r in others]
    others = [r.model_copy(update=names) for r, names in zip(others, called, strict=True)]
    both = {r.dataset for r in records} & {r.dataset for r in others}
    asked = [DatasetsInWords(config) for config in (one, other)]
    again = {name for of in asked for name in of.again(both)}
    found = side_by_side(Run(str(a), records), Run(str(b), others), again=again)
    names = dict.fromkeys(row.dataset for row in found.rows)
    told = {
        "fields": tuple(differing(one, other)),
        "references": {name: tuple(of.references(name) for of in asked) for name in names},
        "arms": dict(arms),
        "datasets": dict(datasets),
    }
    found = found.model_copy(update=told)
    if out is not None:
        write_text(out / SUMMARY, found.model_dump_json(indent=1) + "\n")
        models = dict.fromkeys((made_by(folder) or {}).get("model") or "not recorded" for folder in (a, b))
        write_text(out / REPORT, _page(found, {"model": " and ".join(models), "command": command_line()}))
    return found


def _check_named(what: str, names: Iterable[str], known: Collection[str], run: Path) -> None:
    for name in names:
        if name not in known:
            hint = suggestion(name, sorted(known), "name one of these.")
            raise SettingError(f"Expected --{what} as {run} has it, got {name!r}; {hint}")


def _called(name: str, pairs: Mapping[str, str]) -> str:
    """What the first run calls it; another one by a name that is taken so keeps it with a mark."""
    back = {other: own for own, other in pairs.items()}
    return back.get(name, f"{name} (B's own)" if name in pairs else name)


def _renamed_config(config: dict[str, Any], arms: Mapping[str, str], datasets: Mapping[str, str]) -> dict[str, Any]:
    """With arms and data sets called as in the other run."""
    found = dict(config)
    if isinstance(own := found.get("arms"), Mapping):
        found["arms"] = {_called(name, arms): arm for name, arm in own.items()}
    if isinstance(asked := found.get("datasets"), list):
        found["datasets"] = [{**part, "name": _called(part["name"], datasets)} for part in asked]
    return found


def _check_out(out: Path) -> None:
    """Refuse a folder where the report of two does not belong.

    Raises:
        DataError: with what it is, or what lies there.
    """
    out_folder(out)
    if any(lexists(out / name) for name in RUN):
        raise DataError(f"Expected a folder without a run for the report of two, got {out}; name another --out.")
    check_ours(out, (SUMMARY, REPORT), lambda name: holds(out / SUMMARY, ("a", "b", "only_a", "only_b")))


def table_of(found: TwoRuns) -> Table:
    """What the terminal shows of it."""
    return Table(COLUMNS, [_shown(row) for row in found.rows], _sentences(found))


def _shown(r: SideRow) -> list[str]:
    return [
        *(r.dataset, r.arm, str(r.n)),
        *(f"{x:.1f}" for x in (r.chance, r.accuracy_a, r.accuracy_b)),
        f"{r.difference:+.1f} [{r.ci_low:+.1f}, {r.ci_high:+.1f}]",
        *(f"{r.p_holm:.3f}", f"{r.flips_up}/{r.flips_down}", f"{r.cost_ratio:.2f}"),
    ]


def _sentences(found: TwoRuns) -> list[str]:
    lines = [f"A: {found.a}", f"B: {found.b}"]
    lines += [f"{one} of A is {other} of B" for pairs in (found.datasets, found.arms) for one, other in pairs.items()]
    for only, name in ((found.only_a, "A"), (found.only_b, "B")):
        if only:
            lines.append(f"In {name} alone: {', '.join(only)}")
    lines += _references(found)
    fields = _fields(found)
    if not fields:
        return [*lines, f"No {'other ' if found.fields else ''}field of their configurations differs."]
    return [*lines, "They differ in:", *(f"  {name}: {one} → {other}" for name, one, other in fields)]


def _fields(found: TwoRuns) -> list[tuple[str, str, str]]:
    """Those that differ, and their values; not arms of one run alone, which are named as such."""
    alone = {f"arms.{arm}" for arm in (*found.only_a, *found.only_b)}
    told = [f for f in found.fields if f.field not in alone or None not in (f.a, f.b)]
    return [(f.field, _short(f.a), _short(f.b)) for f in told]


def _references(found: TwoRuns) -> list[str]:
    pairs = {name: dict.fromkeys(both) for name, both in found.references.items()}
    return [f"References of {name}: {' in A, in B '.join(both)}" for name, both in pairs.items()]


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _page(found: TwoRuns, made: Mapping[str, str | None]) -> str:
    return draw(
        __package__,
        "two_runs.html.j2",
        made=made,
        found=found,
        columns=COLUMNS,
        difference=COLUMNS.index("B − A [95 %]"),
        flips=COLUMNS.index("up/down"),
        rows=[(row, _shown(row)) for row in found.rows],
        references=_references(found),
        fields=_fields(found),
    )
