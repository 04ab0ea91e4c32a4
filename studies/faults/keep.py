"""What a run of ``config.yaml`` or ``bounds.yaml`` answered, kept: ``python -m faults.keep RUN --out FOLDER``, from
``studies/``.

``answers.parquet`` has the answers, as every study keeps them, ``found.parquet`` what each had to do with the fault,
and ``summary.json`` what is made of both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from c3po_faults.answer import FaultAnswer
from c3po_faults.config import FaultsConfig
from c3po_faults.rows import FaultsSummary
from c3po_faults.summary import summarize

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.records.parquet import read_parquet, write_parquet
from c3po_adaptive.storage.files import atomic_file, write_text

ANSWERS, FOUND = "answers.parquet", "found.parquet"
KEY = ("dataset", "arm", "id")
TOLD = pa.schema(
    {
        **dict.fromkeys(KEY, pa.string()),
        "concerned": pa.bool_(),
        **dict.fromkeys(("cosine", "expert_precision", "expert_recall"), pa.float32()),
        "scored": pa.list_(pa.float32()),
    }
)
"""In single precision, which is more than five digits, as records have them."""
app = typer.Typer(no_args_is_help=True)


def kept(folder: Path, known: Path) -> FaultsSummary:
    """The summary of answers that are kept in a folder, by what another summary says that they were asked for."""
    found = {tuple(row.pop(key) for key in KEY): row for row in pq.read_table(folder / FOUND).to_pylist()}
    records = [
        FaultAnswer.model_construct(**dict(answer), **found[answer.dataset, answer.arm, answer.id])
        for answer in read_parquet(folder / ANSWERS)
    ]
    before = json.loads(known.read_text(encoding="utf-8"))
    config = FaultsConfig.model_validate(before["config"])
    return summarize(records, config, before["decoder_layers"], before["hashes"])


def write(records: Iterable[FaultAnswer], folder: Path) -> None:
    """Both files."""
    records = list(records)
    write_parquet(records, folder / ANSWERS)
    rows = [record.model_dump(mode="json", include={*TOLD.names}) for record in sorted(records, key=_alike)]
    with atomic_file(folder / FOUND) as writing:
        pq.write_table(
            pa.Table.from_pylist(rows, TOLD),
            writing,
            compression="brotli",
            compression_level=11,
            use_dictionary=[*KEY],
        )


def _alike(record: FaultAnswer) -> tuple[str, str]:
    """A selector's scores of a question one after another, which are the same for every optimizer."""
    return record.arm.rpartition(" | ")[0], record.id


@app.command()
@clear_errors()
def keep(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[Path, typer.Option(help="Folder where it is kept.")],
) -> None:
    """Keep a run's answers, and the summary of them as they are kept."""
    out.mkdir(parents=True, exist_ok=True)
    write(read_records(run, FaultAnswer), out)
    write_text(out / "summary.json", kept(out, run / "summary.json").model_dump_json(indent=1) + "\n")
    typer.echo(f"Kept: {', '.join(sorted(path.name for path in out.iterdir()))}")


if __name__ == "__main__":
    app()
