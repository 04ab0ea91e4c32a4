"""What each arm wins and costs, from ``studies/``: ``python -m merged.arms_page merged/results/second``, once ``c3po
compare`` has judged the answers that are kept there (in ``compared``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from c3po_compare.records import Compared, ComparedSummary

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.storage.files import write_text

from .choose import BASE

GROUP = "gated"
UNTOLD = "–"
LEGEND = """# What each arm wins and costs

Means over {models} models and {questions:,} answers; {unit} are counted alike, and are the unit of intervals. Costs are
in answers of the model left alone, *once* before the first question, and for each *question*; of the models the least
and the most. *Labels* are those learned from: what was chosen on validation questions has those beside them. *Weights*
are those trained by gradient. {untold}: not compared.
"""
HEAD = ("arm", "right, %", "over base [95 %]", "labels", "weights", "once", "a question")
app = typer.Typer(no_args_is_help=True)


def points(found: Compared | None) -> str:
    """A gain with its interval."""
    if found is None:
        return UNTOLD
    return f"{found.difference:+.1f} [{found.ci_low:.1f}, {found.ci_high:.1f}]".replace("-", "−")


def table(kept: Mapping[str, Sequence[Answered]], found: ComparedSummary) -> str:
    """A row an arm, the most right first, under what its columns say."""
    models = found.protocol["groups"][GROUP]["models"]
    gains = {one.a: one for one in found.comparisons if (one.on, one.b) == (GROUP, BASE)}
    rows = sorted((row for row in found.rows if row.on == GROUP), key=lambda row: -row.accuracy)
    lines = [HEAD, ("---", *["---:"] * (len(HEAD) - 1))]
    for row in rows:
        answers = [own for model in models if (own := [r for r in kept[model] if r.arm == row.arm])]
        ends = (
            _ends([own[0].labels for own in answers], ",.0f"),
            _ends([own[0].parameters for own in answers], ",.0f"),
            _ends([own[0].once for own in answers], ",.0f"),
            _ends([float(np.mean([r.cost.total for r in own])) for own in answers], ".2f"),
        )
        lines.append((row.arm, f"{row.accuracy:.1f}", points(gains.get(row.arm)), *ends))
    told = LEGEND.format(models=len(models), questions=rows[0].n, unit=f"{found.protocol['unit']}s", untold=UNTOLD)
    return told + "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _ends(values: Sequence[float | None], spec: str) -> str:
    told = [value for value in values if value is not None]
    if len(told) < len(values):
        return UNTOLD
    return " to ".join(dict.fromkeys(f"{value:{spec}}" for value in (min(told), max(told))))


@app.command()
@clear_errors()
def page(
    results: Annotated[Path, typer.Argument(help="Folder with MODEL.parquet, and compared/summary.json.")],
) -> None:
    """Write ``arms.md`` there."""
    kept = {path.stem: read_parquet(path) for path in sorted(results.glob("*.parquet"))}
    found = ComparedSummary.model_validate_json((results / "compared/summary.json").read_bytes())
    write_text(results / "arms.md", table(kept, found))
    typer.echo(str(results / "arms.md"))


if __name__ == "__main__":
    app()
