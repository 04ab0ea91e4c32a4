"""A leader board to read: tables in Markdown, a page, and a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from posixpath import normpath
from urllib.parse import quote

from ..analysis.verdict import ALSO, BEYOND, HARMS
from ..errors import SettingError
from ..records.summary import AskedFor, BoardSummary, Row, Summary
from ..storage.markdown import cell, code, link
from . import plots
from .page import draw

Block = Callable[[list[str]], str]
"""From arms (none: all) to Markdown."""

MARKS = {BEYOND: "●", ALSO: "◐", HARMS: "▼"}
GAINS = "○"
LEGEND = (
    "● helps beyond its controls · ◐ helps, but so does a control · ○ gains, and no control tells why · ▼ harms · "
    "no mark: no evidence, or a control itself"
)
_MARKER = re.compile(r"<!--\s*/?board\b")
_OPENS = re.compile(r"\s*(?:(?:[-*+]|\d+[.)])\s+)*(`{3,}(?=[^`]*$)|~{3,})")
"""A fence, which may be in an item of a list; what stands behind one of backticks has none."""
_BEGIN, _END = re.compile(r"<!-- board (\w+)(?:: (.*?))? -->"), "<!-- /board -->"


def filled(text: str, known: Mapping[str, Block], where: str) -> str:
    """A Markdown page with its marked blocks written anew; all else in it stays as it is.

    A block stands between a line ``<!-- board NAME -->``, or ``<!-- board NAME: one arm; another arm -->``, and a line
    ``<!-- /board -->``. Such lines inside code (between fences) are examples.

    Args:
        text: of the page.
        known: of each name, a function from arms (none: all) to Markdown.
        where: it is, for messages.

    Raises:
        SettingError: no block, an unknown name, a block in another or without its end, or an end without a block.
    """
    made: list[str] = []
    begun, fence, count = "", "", 0
    for number, line in enumerate(StringIO(text, newline=""), start=1):
        place, marker = f"{where}, line {number}", line.strip()
        fence = _fence(line, fence)
        if fence or not _MARKER.match(marker):
            made += [] if begun else [line]
            continue
        if bool(begun) != (marker == _END):
            wanted = f"{_END} of the block that begins in {begun}" if begun else "<!-- board NAME --> before its end"
            raise SettingError(f"{place}: expected {wanted}, got {marker}; each block has one begin and one end.")
        made += [line] if begun else [line, _block(marker, known, place)]
        begun, count = "" if begun else place, count + 1
    if begun:
        raise SettingError(
            f"{begun}: expected {_END} after this block, got the end of the page; add it below its table."
        )
    if not count:
        raise SettingError(f"{where}: expected <!-- board overall --> and {_END}, got none; add some.")
    return "".join(made)


def _fence(line: str, fence: str) -> str:
    """The fence that code stands behind after this line, given the one before it; "": it is no code."""
    if not fence:
        opens = _OPENS.match(line)
        return opens[1] if opens else ""
    closes = line.strip()
    return "" if len(closes) >= len(fence) and {*closes} == {fence[0]} else fence


def _block(marker: str, known: Mapping[str, Block], place: str) -> str:
    """What stands below a begin."""
    match = _BEGIN.fullmatch(marker)
    if not match or match[1] not in known:
        got = repr(match[1]) if match else marker
        raise SettingError(
            f"{place}: expected a block among {', '.join(known)}, got {got}; write <!-- board {next(iter(known))} -->."
        )
    return known[match[1]]([arm.strip() for arm in (match[2] or "").split(";") if arm.strip()])


def blocks(summary: BoardSummary, folder: str) -> dict[str, Block]:
    """What a page may quote, by name: each a function from the arms that are wanted to Markdown.

    Args:
        summary: of a board.
        folder: the board's, seen from the page.
    """
    return {
        "overall": lambda arms: overall(summary, arms),
        "gains": lambda arms: gains(summary, arms, folder),
        "controls": lambda arms: controls(summary, arms),
        "matrix": lambda arms: matrix(summary, arms),
    }


def overall(summary: BoardSummary, arms: Sequence[str]) -> str:
    """Arms over all data sets: accuracy, gain and the least to be found, likelihood, calibration, cost, verdict.

    An arm that was asked fewer questions than the base says how many: all that stands in its row is on these.
    """
    columns = (
        *("arm", "accuracy, %", "gain in points [95 %]", "detectable", "NLL, and its change [95 %]"),
        *("ECE, and its change [95 %]", "cost", "once", "verdict"),
    )
    full = _asked_in_full(summary, summary.shown_dataset)
    rows = [_overall(row, summary, full) for row in _wanted(summary, arms, summary.shown_dataset)]
    table = _table(columns, "lrrrrrrrl", rows)
    return f"{table}\n\n{cell(summary.audit)}" if summary.audit else table


def _overall(row: Row, summary: BoardSummary, full: int) -> list[str]:
    itself = row.arm == summary.baseline
    nll, ece = ("" if itself else f", {_change(row, *of)}" for of in (("nll", 3), ("calibration", 1)))
    return [
        *(code(row.arm), f"{row.accuracy:.1f}{_on(row, full)}"),
        *(("", "") if itself else (_gain(row), f"{row.detectable:.1f}")),
        *(f"{row.nll:.3f}{nll}", f"{row.calibration_error:.1f}{ece}"),
        *(f"{row.cost.total:.2f}", _count(row.cost.once), cell(_verdict(row))),
    ]


def _asked_in_full(summary: BoardSummary, dataset: str) -> int:
    """How many questions the base was asked."""
    own = (r for r in summary.rows if (r.dataset, r.arm) == (dataset, summary.baseline))
    return next(own).n


def _on(row: Row, full: int) -> str:
    return "" if row.n == full else f" on {row.n:,}"


def gains(summary: BoardSummary, arms: Sequence[str], folder: str) -> str:
    """Arm by data set: the gain, its interval and a mark for its verdict; each data set with whom arms learned from
    there, and where records are.
    """
    datasets = [name for name in dict.fromkeys(row.dataset for row in summary.rows) if name != "all"]
    cells = {(row.dataset, row.arm): row for row in summary.rows}
    over = [*datasets, "all"] if ("all", summary.baseline) in cells else datasets
    names = dict.fromkeys(row.arm for name in over for row in _wanted(summary, arms, name))
    heads = [f"{cell(name)}<br>{_asked(summary, name, folder)}" if name != "all" else name for name in over]
    full = {name: _asked_in_full(summary, name) for name in over}
    rows = [[code(arm), *(_cell(cells.get((name, arm)), summary, full[name]) for name in over)] for arm in names]
    return _table(("arm", *heads), "l" + "r" * len(over), rows) + f"\n{LEGEND}\n"


def _cell(row: Row | None, summary: BoardSummary, full: int) -> str:
    if row is None:
        return ""
    if row.arm == summary.baseline:
        return f"{row.accuracy:.1f} % of {row.n:,}, chance {row.chance:.1f}"
    return f"{_gain(row)}{_on(row, full)} {mark(row)}".strip()


def mark(row: Row) -> str:
    """Of a verdict, or of a gain that has none."""
    if row.verdict is None and row.because:
        return GAINS
    return next((sign for name, sign in MARKS.items() if (row.verdict or "").startswith(name)), "")


def _asked(summary: BoardSummary, dataset: str, folder: str) -> str:
    """Whose questions were learned from, and links to configurations and records."""
    own = [source for source in summary.sources if source.dataset == dataset]
    paths = dict.fromkeys((kind, getattr(source, kind)) for kind in ("config", "records") for source in own)
    links = ", ".join(link(kind, normpath(f"{folder}/{path}")) for kind, path in paths)
    return f"references: {cell(_references(summary, dataset))}<br>{links}"


def _references(summary: BoardSummary, dataset: str) -> str:
    """Whose questions were learned from, by any arm."""
    return "; ".join(dict.fromkeys(row.references for row in summary.rows if row.dataset == dataset))


def controls(summary: BoardSummary, arms: Sequence[str]) -> str:
    """Each arm minus each of its controls, over all data sets, and what the control gains itself."""
    dataset, rows = summary.shown_dataset, []
    for row in _wanted(summary, arms, summary.shown_dataset):
        for control in row.controls:
            c, own = (summary.find(dataset, a, b) for a, b in ((row.arm, control), (control, summary.baseline)))
            if c and own:
                values = [f"{x.difference:+.1f} [{x.ci_low:+.1f}, {x.ci_high:+.1f}]" for x in (c, own)]
                rows.append([code(row.arm), code(control), *values, f"{c.p_holm:.3f}", str(c.draws)])
    columns = ("arm", "control", "arm minus control [95 %]", "gain of the control [95 %]", "p, Holm", "draws")
    return _table(columns, "llrrrr", rows)


def matrix(summary: BoardSummary, arms: Sequence[str]) -> str:
    """What each arm asks for: parameters, input, labels, and the right task."""
    asked = ("parameters updated", "prompt's FLOPs, times", "labels needed")
    columns = ("arm", *asked, "gains over data sets", "SD beyond noise")
    rows = [row for row in summary.matrix if not arms or row.arm in arms]
    return _table(columns, "lrrrrr", [_asked_for(row, itself=row.arm == summary.baseline) for row in rows])


def _asked_for(row: AskedFor, *, itself: bool) -> list[str]:
    span = "" if itself or row.sd is None else f"{row.lowest:+.1f} to {row.highest:+.1f}"
    labels = "the answer itself" if row.needs_label else _count(row.labels)
    prompt = "" if row.prompt is None else f"{row.prompt:.2f}"
    noise = "" if itself or row.beyond_noise is None else f"{row.beyond_noise:.1f}"
    return [code(row.arm), _count(row.parameters), prompt, labels, span, noise]


def page(summary: BoardSummary, results: str) -> str:
    """The board as HTML, self-contained but for links to configurations and records.

    Args:
        summary: of a board.
        results: the folder that the page stands in, seen from the board's.
    """
    up = "/".join([".."] * len([part for part in results.split("/") if part not in ("", ".")])) or "."
    sources = {
        (s.dataset, s.arm): {k: quote(normpath(f"{up}/{getattr(s, k)}")) for k in ("config", "records")}
        for s in summary.sources
    }
    shown = summary.on(summary.shown_dataset)
    datasets = list(dict.fromkeys(row.dataset for row in summary.rows))
    return draw(
        __package__,
        "leader_board.html.j2",
        made=None,
        model=summary.config["model"],
        summary=summary,
        shown=shown,
        datasets=datasets,
        arms=list(dict.fromkeys(row.arm for row in summary.rows)),
        cells={(row.dataset, row.arm): row for row in summary.rows},
        marks={(row.dataset, row.arm): mark(row) for row in summary.rows},
        sources=sources,
        references={name: _references(summary, name) for name in datasets},
        legend=LEGEND,
        figures=[
            ("Accuracy and cost", plots.costs(shown)),
            ("Cost by the number of questions", plots.costs_over(shown)),
            ("Gain over base", plots.gains(shown)),
        ],
    )


def picture(summary: Summary) -> str:
    """Accuracy against FLOPs as an SVG file."""
    return plots.standalone(plots.costs(summary.on(summary.shown_dataset)))


def _wanted(summary: BoardSummary, arms: Sequence[str], dataset: str) -> list[Row]:
    known = {row.arm for row in summary.rows}
    if unknown := [arm for arm in arms if arm not in known]:
        raise SettingError(f"Expected arms of this board in a page's block, got {', '.join(unknown)}; leave them out.")
    rows = [row for row in summary.rows if row.dataset == dataset]
    return [row for row in rows if not arms or row.arm in arms]


def _change(row: Row, of: str, digits: int) -> str:
    value, low, high = (getattr(row, f"{of}_{what}") for what in ("difference", "ci_low", "ci_high"))
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _gain(row: Row) -> str:
    return f"{row.gain:+.1f} [{row.ci_low:+.1f}, {row.ci_high:+.1f}]"


def _verdict(row: Row) -> str:
    what = {"control": "a control", "oracle": "an upper bound", "base": ""}.get(row.role)
    return (row.verdict or f"no verdict: {row.because}") if what is None else what


def _count(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:,.0f}"


def _table(columns: Sequence[str], sides: str, rows: Sequence[Sequence[str]]) -> str:
    """In Markdown, of cells without a bar; each column is set to the left (l) or to the right (r)."""
    lines = [columns, ["---:" if side == "r" else "---" for side in sides], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
