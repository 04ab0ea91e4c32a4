"""Commands that run something, or draw what was run: demo, evaluate, study, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..storage.files import is_file, is_folder
from .shared import (
    Device,
    Dtype,
    Format,
    Minutes,
    Model,
    Out,
    Overwrite,
    Plugins,
    Quantize,
    Revision,
    SetOption,
    Unchecked,
    check_plugins,
    clear_errors,
    make_room,
    print_table,
    progress_for,
    registry_with,
)

if TYPE_CHECKING:
    from ..registry import Registry
    from ..study.kind import Study

DEMO_LIMIT = 112  # half of the demo's test questions: some minutes on two cores

study = typer.Typer(help="Studies: a configuration in, results out.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add the commands that belong to no group."""
    app.command()(demo)
    app.command()(evaluate)
    app.command()(report)


def demo(
    out: Out = Path("runs/demo"),
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"So many, spread over the kinds; {DEMO_LIMIT} of the demo's own."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", help="Only these arms (or optimizers, selectors, answerers); repeatable."),
    ] = None,
    questions: Annotated[
        str, typer.Option(help="Test questions: a file, a folder, a benchmark, or demo; NAME:SPLIT.")
    ] = "demo",
    split: Annotated[str | None, typer.Option(help="Which split of them.")] = None,
    references: Annotated[
        list[str] | None, typer.Option(help="Labeled questions, likewise, or a built set; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all arms that draw.")] = 0,
    minutes: Minutes = None,
    model: Model = "smollm2-moe",
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = None,
    quantize: Quantize = None,
    format: Format = "cloze",
    plugin: Plugins = None,
    unchecked: Unchecked = False,
    overwrite: Overwrite = False,
) -> None:
    """Base, fixed and adaptive re-mixing side by side on the embedded model and real questions, with a report."""
    with clear_errors():
        from ..study.arms import DEMO_ARMS, DEMO_COMPARED, DEMO_HEADLINE, arms_by_name
        from ..study.comparison import STUDY

        registry = registry_with(plugin)
        names = list(DEMO_ARMS) if not arm else list(dict.fromkeys(["base", *arm]))
        if questions == "demo":
            data: dict[str, Any] = {"name": "demo", "split": split or "test", "limit": limit or DEMO_LIMIT}
        else:
            data = {"name": _called(questions), "split": split, "limit": limit}
        data |= {"references": references} if references else {"references": ["demo"], "references_split": "references"}
        config = {
            "seed": seed,
            "model": model,
            "revision": revision,
            "dtype": dtype,
            "device": device,
            "quantize": quantize,
            "format": format,
            "datasets": [data | {"questions": questions}],
            "arms": {n: a.model_dump(exclude_unset=True) for n, a in arms_by_name(names, registry).items()},
            "headline": DEMO_HEADLINE if DEMO_HEADLINE in names else None,
            "compare": [pair for pair in DEMO_COMPARED if {*pair} <= {*names}],
        }
        _run(STUDY, STUDY.parse(config), out, registry, minutes, unchecked, overwrite)


def _called(source: str) -> str:
    """What a source is called in results: a benchmark's name, or a file's without its ending."""
    there = is_file(Path(source)) or is_folder(Path(source))
    path = Path(source if there else source.partition(":")[0])
    return (path.stem if path.suffix in (".json", ".jsonl") else path.name) or source


def evaluate(
    config: Annotated[Path, typer.Option(help="YAML: model, datasets, arms.")],
    out: Out,
    set: SetOption = None,
    plugin: Plugins = None,
    minutes: Minutes = None,
    unchecked: Unchecked = False,
    overwrite: Overwrite = False,
) -> None:
    """Run the arms of a configuration on its data sets."""
    study_run(config, out, set, plugin, minutes, unchecked, overwrite)


@study.command("run")
def study_run(
    config: Path,
    out: Out,
    set: SetOption = None,
    plugin: Plugins = None,
    minutes: Minutes = None,
    unchecked: Unchecked = False,
    overwrite: Overwrite = False,
) -> None:
    """Run a study's configuration, or resume it."""
    with clear_errors():
        from ..study.kind import read_study

        kind, parsed = read_study(config, set or [])
        _run(kind, parsed, out, registry_with(plugin), minutes, unchecked, overwrite)


@study.command("plan")
def study_plan(config: Path, set: SetOption = None, plugin: Plugins = None) -> None:
    """Check what a study would run, and say what it takes as far as that can be foreseen, without running it."""
    with clear_errors():
        from ..study.kind import read_study

        kind, parsed = read_study(config, set or [])
        for line in kind.plan(parsed, registry_with(plugin)):
            typer.echo(line)


@study.command("schema")
def study_schema(
    kind: Annotated[
        str | None, typer.Option(help="Of study, as configurations name it; default: that of those that name none.")
    ] = None,
) -> None:
    """Print the JSON schema of a kind's configurations, by which editors complete and check YAML."""
    with clear_errors():
        from ..study.kind import kind_of

        schema = kind_of({} if kind is None else {"kind": kind}).config.model_json_schema()
        typer.echo(json.dumps(schema, indent=1, ensure_ascii=False))


def _run(
    kind: Study[Any],
    config: Any,
    out: Path,
    registry: Registry,
    minutes: float | None,
    unchecked: bool,
    overwrite: bool,
) -> None:
    used = kind.strategies(config, registry)
    if not unchecked:
        check_plugins(used, registry)
    if overwrite:
        make_room(out)
    summary = kind.run(config, out, registry, progress=progress_for(minutes))
    table = kind.table(summary)
    print_table(table.columns, table.rows)
    typer.echo(f"\nReport: {out / 'report.html'}\n")
    for sentence in table.sentences:
        typer.echo(sentence)
    for error in (failed := summary.get("failed", {})).values():
        typer.echo(f"error: {error}", err=True)
    if failed:
        typer.echo(f"left out: {', '.join(failed)}; the same command tries them again", err=True)
        raise typer.Exit(1)


def report(
    run_dir: Path,
    questions: Annotated[list[Path] | None, typer.Option(help="JSONL with the questions' texts; repeatable.")] = None,
) -> None:
    """Draw the report of a run or study again; that of a run with question texts from local files."""
    with clear_errors():
        from ..study.kind import study_in

        for said in study_in(run_dir).draw(run_dir, questions or []):
            typer.echo(said, err=True)
        typer.echo(f"Report: {run_dir / 'report.html'}")
