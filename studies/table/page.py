"""The table and its picture, from ``studies/``: ``python -m table.page table/results``, once ``c3po compare`` has
judged the answers that are kept there.

``table.md`` and ``table.svg``: of each model a row for each arm, and accuracies as bars, grouped by data set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from c3po_compare.records import Compared, ComparedSummary
from merged.arms_page import UNTOLD, points
from merged.choose import BASE, best

from c3po_adaptive.analysis import over_values
from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.errors import DataError
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.report import COLORS, standalone, style, svg
from c3po_adaptive.storage.files import write_text

from .choose import NEAREST
from .fresh import MIXTURE, kinds

MERGED = "smollm2-moe-merged"
HOW = ("own", MIXTURE)
"""How data sets are asked: each with its own references, and all with all; groups of the protocol begin so."""
RIVALS = ("in context", "prompt tuning")
"""What the goal is to be above."""
BARS = {
    BASE: ("base", 1.0),
    "in context": ("control", 0.45),
    "prompt tuning": ("control", 1.0),
    "ngd, published": ("method", 0.3),
    "ngd": ("method", 0.6),
    NEAREST: ("method", 1.0),
    "nearest, oracle": ("oracle", 0.6),
}
"""Rows of the picture: color and its strength."""
app = typer.Typer(no_args_is_help=True)
Records = Sequence[Answered]


def table(
    records: Records, gains: Mapping[str, Compared], mixed: Mapping[str, Compared], chosen: Mapping[str, str]
) -> str:
    """A row an arm: accuracies in percent, points over base, what was learned from, and costs in base forwards.

    Args:
        records: a model's answers.
        gains: over base, each data set with its own references.
        mixed: likewise, in the mixture; empty: it was not asked.
        chosen: setting by arm.
    """
    sets = kinds()
    head = ["row", "chosen", *sets, "mean", "over base [95 %]"]
    head += ["in the mixture [95 %]"] * bool(mixed) + ["learned from", "once", "a question"]
    aligned = ["---", "---", *["---:"] * (len(sets) + 2 + bool(mixed)), "---", "---:", "---:"]
    lines = [head, aligned, _by_chance(records, len(head))]
    for arm in dict.fromkeys(r.arm for r in records):
        own = [r for r in records if r.arm == arm]
        by_set = [[r for r in own if r.dataset == name] for name in sets]
        gained = [points(told.get(arm)) for told in (gains, *[mixed] * bool(mixed))]
        cells = [arm, chosen.get(arm) or UNTOLD, *(f"{_right(of):.1f}" for of in by_set)]
        cells += [f"{np.mean([_right(of) for of in by_set]):.1f}", *gained, learned_from(own[0])]
        lines.append([*cells, *_costs(by_set)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def learned_from(record: Answered) -> str:
    """In words, what an arm knew beside the question."""
    if record.needs_label:
        return "its own answer"
    trained = f", {record.parameters:,} weights" if record.parameters else ""
    return (f"{record.labels} labels" if record.labels else "nothing") + trained


def letters(model: str, records: Records) -> str:
    """What the model left alone knows where choices are letters, in a sentence."""
    own = [r for r in records if r.dataset in kinds()]
    above = np.array([[r.correct - r.chance] for r in own])
    chance = 100 * float(np.mean([r.chance for r in own]))
    said = "above chance" if over_values(above, seed=0).low > 0 else "**at chance**: not shown to be above it"
    return (
        f"Choices as letters, as the paper has them, are {said}: `{model}`, left alone, is right on "
        f"{_right(own):.1f} % of {len(own)} validation questions (chance {chance:.1f} %)."
    )


def sentence(gains: Mapping[tuple[str, str, str], Compared]) -> str:
    """What was found, with two numbers."""
    above = [gains[f"{HOW[0]}: {MERGED}", NEAREST, rival] for rival in RIVALS]
    shown = [found.ci_low > 0 for found in above]
    verdict = {2: "both are shown", 1: "one of them is shown", 0: "neither is shown"}[sum(shown)]
    points = [f"{abs(found.difference):.1f} points {'above' if found.difference >= 0 else 'below'}" for found in above]
    told = " and ".join(f"{by} {rival}" for by, rival in zip(points, RIVALS, strict=True))
    return f"On the merged model's six data sets `{NEAREST}` is {told}; {verdict}."


def picture(records: Records) -> str:
    """Accuracy by data set, as bars, and what chance is."""
    from matplotlib.figure import Figure

    groups = [*kinds(), "mean"]
    with style():
        figure = Figure(figsize=(9.2, 3.4), layout="constrained")
        axes = figure.subplots()
        width = 0.86 / len(BARS)
        for k, (arm, (role, strength)) in enumerate(BARS.items()):
            right = [_right([r for r in records if (r.arm, r.dataset) == (arm, name)]) for name in kinds()]
            at = [x + width * (k - (len(BARS) - 1) / 2) for x in range(len(groups))]
            mean = float(np.mean(right))
            bars = axes.bar(at, [*right, mean], 0.9 * width, color=COLORS[role], alpha=strength, label=arm)
            axes.bar_label(bars, [*[""] * len(right), f"{mean:.0f}"], size=7, padding=1)
        by_set = [[r.chance for r in records if (r.arm, r.dataset) == (BASE, name)] for name in kinds()]
        chance = [100 * float(np.mean(own)) for own in by_set]
        for x, value in enumerate([*chance, float(np.mean(chance))]):
            axes.hlines(
                value, x - 0.45, x + 0.45, color=COLORS["text"], linewidth=1, linestyle=":", label="chance" * (not x)
            )
        axes.set_xticks(range(len(groups)), [name.replace("_", "\n") for name in groups])
        axes.set(ylabel="right, %", ylim=(0, 105))
        axes.margins(x=0.01)
        axes.axvline(len(groups) - 1.5, color=COLORS["grid"], linewidth=1)
        axes.grid(True, axis="y")
        figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=8)
        return svg(figure, "Accuracy of each arm on each of six data sets, and on their mean, as bars")


def _by_chance(records: Records, width: int) -> list[str]:
    """The row of who guesses."""
    base = [r for r in records if r.arm == BASE]
    by_set = [100 * float(np.mean([r.chance for r in base if r.dataset == name])) for name in kinds()]
    cells = ["(chance)", UNTOLD, *(f"{value:.1f}" for value in (*by_set, np.mean(by_set)))]
    return cells + [UNTOLD] * (width - len(cells))


def _costs(by_set: Sequence[Records]) -> Iterator[str]:
    once = [of[0].once for of in by_set]
    yield UNTOLD if None in once else f"{np.mean([value or 0.0 for value in once]):,.0f}"
    yield f"{np.mean([r.cost.total for of in by_set for r in of]):.2f}"


def _right(own: Records) -> float:
    """Percent."""
    if not own:
        raise DataError("Expected answers of every row to each of the six data sets, got none of some; finish the run.")
    return 100 * float(np.mean([r.correct for r in own]))


@app.command()
@clear_errors()
def page(
    results: Annotated[
        Path,
        typer.Argument(help="Folder with MODEL.parquet, tries/MODEL.json, letters/MODEL.parquet and summary.json."),
    ],
) -> None:
    """Write ``table.md`` and ``table.svg`` there."""
    kept = {path.stem: read_parquet(path) for path in sorted(results.glob("*.parquet"))}
    found = ComparedSummary.model_validate_json((results / "summary.json").read_bytes())
    gains = {(one.on, one.a, one.b): one for one in found.comparisons}
    parts = [sentence(gains)]
    for model in sorted(kept, key=lambda name: name != MERGED):
        tries = json.loads((results / "tries" / f"{model}.json").read_text(encoding="utf-8"))
        over = [{a: one for (on, a, b), one in gains.items() if (on, b) == (f"{how}: {model}", BASE)} for how in HOW]
        told = table(kept[model], *over, {arm: best(of)["setting"] for arm, of in tries.items()})
        parts += [f"## {model}", told]
        if (by_letters := results / "letters" / f"{model}.parquet").exists():
            parts.append(letters(model, read_parquet(by_letters)))
    parts += ["## Primary comparisons", "\n".join(f"- {one.sentence}" for one in found.comparisons if one.primary)]
    write_text(results / "table.md", "\n\n".join(parts) + "\n")
    write_text(results / "table.svg", standalone(picture(kept[MERGED])))
    typer.echo(parts[0])


if __name__ == "__main__":
    app()
