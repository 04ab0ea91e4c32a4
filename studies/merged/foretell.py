"""What the audit foretells of a model before a question is asked, from ``studies/``: ``python -m merged.foretell MODEL
--out FILE``. It is the expected gain of ``c3po audit`` alone, by 300 references of the case's kinds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from c3po_audit.expected_gain import LeftOut, expected_gain
from c3po_audit.measure import Measurement
from c3po_audit.plan import AuditPlan

from c3po_adaptive import load_moe_model
from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.progress import bar
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks import questions

from .fresh import kinds_of

LABELS, BATCH, SEED = 300, 8, 0
NOTHING_ELSE = AuditPlan(trials=(), descents=(), descended=0, bans=False, exact=False)
app = typer.Typer(no_args_is_help=True)


@app.command()
@clear_errors()
def foretell(
    model: Annotated[str, typer.Argument(help="A folder, or a model's name.")],
    out: Annotated[Path, typer.Option(help="A file: expected_gain of an audit's summary, and what a question took.")],
) -> None:
    """Leave each of 300 references out, and answer it as the others teach."""
    loaded = load_moe_model(model)
    asked = questions("bed:" + ",".join(kinds_of(Path(model).name)), split="references", limit=LABELS)
    left_out = LeftOut(loaded, asked, "cloze", SEED)
    measurement = Measurement(loaded, "cloze", NOTHING_ELSE, {}, frozenset(), "references", SEED, left_out)
    batches = [asked[i : i + BATCH] for i in range(0, len(asked), BATCH)]
    rows = [row for batch in bar(batches, f"foretelling {loaded.name}") for row in measurement.rows(batch)]
    found = expected_gain(rows, loaded.layers, SEED)
    write_text(out, found.model_dump_json(indent=1) + "\n")
    typer.echo(f"{loaded.name}: {found.points.value:+.1f} [{found.points.low:.1f}, {found.points.high:.1f}]")


if __name__ == "__main__":
    app()
