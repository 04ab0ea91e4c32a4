"""What runs of ``config.yaml`` found, kept and set beside each other, from ``studies/``:
``python -m faithfulness.keep RUN … --out faithfulness/results``.

``NAME.parquet`` has a run's rows, by the name of its folder behind the last hyphen, and ``NAME.json`` their summary;
``scores.md`` and ``places.svg`` set those that are kept beside each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from c3po_faithfulness.config import FaithfulnessConfig
from c3po_faithfulness.page import draw_places
from c3po_faithfulness.record import ScoreRecord
from c3po_faithfulness.summary import TRUTH, FaithfulnessSummary, summarize
from matplotlib.figure import Figure

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.report import LINE, WIDTH, standalone, style, svg
from c3po_adaptive.storage.files import atomic_file, write_text
from c3po_adaptive.study import Interval

MODELS = {
    "misrouted": "first eight routers broken",
    "sound": "as shipped",
    "merged": "merged by prompts",
    "random": "weights at random",
}
"""Runs that are set beside each other, as pages call their models."""
AREAS = {"a question": "marked", "its kind": "marked_by_kind", "all": "marked_by_all"}
ON_MERGED = ("merged: as setting right does", "merged: helps, over random layers")
app = typer.Typer(no_args_is_help=True)


def kept(path: Path) -> FaithfulnessSummary:
    """The summary of rows that are kept, by the configuration that is kept beside them."""
    return _summary(path, path.with_suffix(".json"))


def _summary(path: Path, known: Path) -> FaithfulnessSummary:
    """Of kept rows, by what another summary of them says that they were asked for."""
    rows = [ScoreRecord.model_validate(_told(row)) for row in pq.read_table(path).to_pylist()]
    before = json.loads(known.read_text(encoding="utf-8"))
    config = FaithfulnessConfig.model_validate(before["config"])
    return summarize(rows, config, before["decoder_layers"], before["hashes"], before["counted_once"])


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not of this row: of scores the effects, of effects what a score found."""
    return {k: v for k, v in row.items() if v is not None and (k != "effects" or any(v.values()))}


def keep(run: Path, out: Path) -> None:
    """A run's rows, and the summary of them as they are kept."""
    path, rows = out / f"{run.name.rpartition('-')[2]}.parquet", read_records(run, ScoreRecord)
    plain = [row.model_dump(mode="json", exclude={"schema_version", "seconds"}) for row in rows]
    write_small(small(pa.Table.from_pylist(plain)), path)
    write_text(path.with_suffix(".json"), _summary(path, run / "summary.json").model_dump_json(indent=1) + "\n")


def write_small(table: pa.Table, path: Path) -> None:
    """In few bytes: words by number, and of numbers the first bytes of all before the second ones."""
    with atomic_file(path) as writing:
        pq.write_table(
            table,
            writing,
            compression="brotli",
            compression_level=11,
            use_dictionary=[field.name for field in table.schema if pa.types.is_string(field.type)],
            use_byte_stream_split=True,
            store_schema=False,
            write_statistics=False,
        )


def small(table: pa.Table) -> pa.Table:
    """With numbers in single precision, which is more than a score is known to and half of what doubles take."""
    return table.cast(pa.schema([field.with_type(_single(field.type)) for field in table.schema]))


def _single(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_single(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_single(kind.value_type))
    return pa.float32() if pa.types.is_float64(kind) else kind


def table(found: Mapping[str, FaithfulnessSummary]) -> str:
    """A row for each score and truth: how well it finds the broken layers, beside where none is, where weights are at
    random, and where all are broken."""
    marked = [{place.of: place for place in found[name].places} for name in ("misrouted", "sound", "random")]
    costs, merged = ({row.score: row for row in found[name].rows} for name in ("misrouted", "merged"))
    beside = [f"{of}: {name}" for of in ("sound", "random") for name in AREAS]
    columns = ["score", *AREAS, *beside, *ON_MERGED, "passes"]
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    for name, place in marked[0].items():
        areas = [_interval(getattr(of[name], area)) if name in of else "" for of in marked for area in AREAS.values()]
        rest = [""] * (len(ON_MERGED) + 1)
        if name in merged:
            row = merged[name]
            rest = [_interval(row.correlation("set right")), _interval(row.beside_random, 3), f"{costs[name].cost:.1f}"]
        lines.append([f"{name}{'' if place.role == 'method' else f' ({place.role or TRUTH})'}", *areas, *rest])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _interval(found: Interval, digits: int = 2) -> str:
    mean, low, high = (f"{x:.{digits}f}".replace("-", "−") for x in (found.mean, found.ci_low, found.ci_high))
    return f"{mean} [{low}, {high}]"


def picture(found: Mapping[str, FaithfulnessSummary]) -> str:
    """Where each score puts each layer, a panel for each model; broken layers are framed."""
    shown = {place.of for place in found["sound"].places}
    with style():
        figure = Figure(figsize=(2 * WIDTH, 0.9 + LINE * len(shown)), layout="constrained")
        for axes, (name, title) in zip(figure.subplots(1, len(MODELS), sharey=True), MODELS.items(), strict=True):
            one = found[name]
            draw_places(
                axes,
                [place for place in one.places if place.of in shown],
                one.decoder_layers,
                one.marked if name == "misrouted" else (),
            )
            axes.set_title(title, loc="left", size=9)
            axes.set_xlabel("decoder layer", size=9)
        return svg(figure, f"Which layers each score puts first: {', '.join(MODELS.values())}")


@app.command()
@clear_errors()
def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs: …-misrouted, …-sound, …-merged, …-random.")],
    out: Annotated[Path, typer.Option(help="Folder where they are kept.")],
) -> None:
    """Keep runs, and set those that are kept beside each other once there is one of each model."""
    out.mkdir(parents=True, exist_ok=True)
    for run in runs:
        keep(run, out)
    there = {name: kept(out / f"{name}.parquet") for name in MODELS if (out / f"{name}.parquet").exists()}
    if len(there) == len(MODELS):
        write_text(out / "scores.md", table(there))
        write_text(out / "places.svg", standalone(picture(there)))
    typer.echo(f"Kept: {', '.join(there)}")


if __name__ == "__main__":
    app()
