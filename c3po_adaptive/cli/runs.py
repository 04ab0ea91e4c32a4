"""Commands that run a study, or draw what was run: evaluate, study, report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SettingError
from ..storage.json_files import read_json
from .options import (
    PATH,
    AsJson,
    EngineOptions,
    Out,
    Plugins,
    RunOptions,
    SetOption,
    Texts,
    grouped,
    progress_for,
    registry_with,
)
from .terminal import App, clear_errors, print_json, print_table, room_in, say

if TYPE_CHECKING:
    from ..registry import Registry
    from ..study.executor import Executor
    from ..study.kind import Study, Table

Only = Annotated[
    list[str] | None, typer.Option("--dataset", help="Only this data set of the configuration; repeatable.")
]

OnlyArm = Annotated[
    list[str] | None, typer.Option("--arm", help="Only this arm of a comparison, and its base; repeatable.")
]

TWO = "report of two"
"""What plugins bring of a kind of study, so that two of its runs are put side by side."""

SHOWN = 4
"""Data sets, and arms, of a run in a list."""

study = App(help="Studies: a configuration in, results out.", no_args_is_help=True)


def evaluate(
    *,
    config: Annotated[Path, typer.Option(help="YAML: model, datasets, arms.")],
    out: Out,
    dataset: Only = None,
    arm: OnlyArm = None,
    engine: EngineOptions,
    run: RunOptions,
) -> None:
    """Another name of c3po study run, with the configuration as an option."""
    study_run(config, out=out, dataset=dataset, arm=arm, engine=engine, run=run)


def study_run(
    config: Path, *, out: Out, dataset: Only = None, arm: OnlyArm = None, engine: EngineOptions, run: RunOptions
) -> None:
    """Run a study's configuration, or resume it."""
    with clear_errors():
        kind, parsed, registry = _read(config, run.set, dataset, arm, run.plugin)
        summary = carried_out(kind, parsed, out, registry, run, engine.executor(registry))
        if run.as_json:
            print_json(summary)
        else:
            show(kind.table(summary), out, wide=run.wide)
        tell_failed(summary)


study.command("run")(grouped(study_run))


@study.command("plan")
def study_plan(
    config: Path,
    set: SetOption = None,
    dataset: Only = None,
    arm: OnlyArm = None,
    plugin: Plugins = None,
    begun: Annotated[
        Path | None,
        typer.Option(help="Folder of a run of it: how long the rest takes at its pace."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check what a study would run, and say what it takes at least; nothing of it is run.

    Of the model its configuration is read (config.json, which is enough in a folder), and its tokenizer. One whose
    weights are at hand, two GiB at most, gives some plain answers, which tell minutes.
    """
    with clear_errors():
        kind, parsed, registry = _read(config, set, dataset, arm, plugin)
        plan = kind.plan(parsed, registry, begun)
        if as_json:
            print_json(plan.values)
            return
        for line in plan.lines:
            say(line)


@study.command("schema")
def study_schema(
    kind: Annotated[
        str | None, typer.Option(help="Of study, as configurations name it; default: that of those that name none.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Print the JSON schema of a kind's configurations, by which editors complete and check YAML."""
    with clear_errors():
        from ..study.kinds import kind_of

        raw = {} if kind is None else {"kind": kind}
        schema = kind_of(raw, registry_with(plugin)).config.model_json_schema()
        say(json.dumps(schema, indent=1, ensure_ascii=False))


def _read(
    path: Path,
    settings: list[str] | None,
    datasets: list[str] | None,
    arms: list[str] | None,
    plugins: list[Path] | None,
) -> tuple[Study[Any], Any, Registry]:
    """The kind and the configuration of a file, and the registry of its strategies."""
    from ..study.kinds import read_study

    registry = cache(lambda: registry_with(plugins))
    return *read_study(path, settings or [], datasets or [], registry, arms or []), registry()


def carried_out(
    kind: Study[Any],
    config: Any,
    out: Path,
    registry: Registry,
    options: RunOptions,
    executor: Executor | None = None,
) -> Any:
    """The summary of a study that was run, here or where the executor computes."""
    from ..study.executor import HERE

    used = kind.strategies(config, registry)
    if not options.unchecked:
        check_plugins(used, registry)
    with room_in(out, options.overwrite):
        return kind.run(config, out, registry, executor=executor or HERE, progress=progress_for(options.minutes))


def show(table: Table, out: Path | None, *, wide: bool) -> None:
    """What came out, on the terminal, and where its page is, if there is one."""
    brief = table if wide else table.in_brief()
    print_table(brief.columns, brief.rows, keys=2)  # data set and arm
    say("" if out is None else f"\nReport: {out / 'report.html'}\n")
    for sentence in table.sentences:
        say(sentence)


def tell_failed(summary: Any) -> None:
    """That arms were left out, and why.

    Raises:
        typer.Exit: there are some.
    """
    for error in (failed := getattr(summary, "failed", {})).values():
        say(f"error: {error}", err=True)
    if failed:
        say(f"left out: {', '.join(failed)}; the same command tries them again", err=True)
        raise typer.Exit(1)


def check_plugins(used: Iterable[tuple[str, Any]], registry: Registry) -> None:
    """Refuse strategies of plugins that break the contract of their role: seconds now, or a model loaded in vain.

    Args:
        used: strategies with their roles.
        registry: knows which of them come with the package.

    Raises:
        PluginError: with all that does not hold.
    """
    from ..testing.findings import check_contract, parts

    foreign = {entry.cls: entry.plugin for entry in registry.table() if entry.plugin not in registry.ours}
    there = [part for role, strategy in used for part in parts(role, strategy) if type(part[1]) in foreign]
    for role, strategy in {repr(part): part for part in there}.values():
        brought_by = foreign[type(strategy)]
        check_contract(role, strategy, brought_by if brought_by.endswith(".py") else strategy.name)


def runs(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER...", help="That have run folders in them, at any depth; default: runs."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs below folders, the latest first: kind, model, data, arms, whether finished, and when."""
    with clear_errors():
        from dataclasses import asdict

        from ..storage.run_list import runs_below

        usual = Path("runs")
        searched = folders or ([usual] if usual.is_dir() else [])
        every = {run.folder: run for folder in searched for run in runs_below(folder)}
        found = sorted(every.values(), key=lambda run: run.changed, reverse=True)
        if as_json:
            print_json([asdict(run) for run in found])
        elif not found:
            where = ", ".join(map(str, folders or [usual]))
            say(f"There are no runs in {where} yet; c3po demo or c3po study run CONFIG --out {usual}/NAME makes one.")
        else:
            rows = [
                [r.folder, f"{r.kind}\n{r.model}", _some(r.datasets), _some(r.arms), f"{r.state}\n{r.changed}"]
                for r in found
            ]
            print_table(("folder", "kind, model", "data", "arms", "state, written"), rows)


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are (``--json``)."""
    return ", ".join([*names[:SHOWN], *([f"… {len(names) - SHOWN} more"] if len(names) > SHOWN else [])])


def report(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run.")],
    other: Annotated[Path | None, typer.Argument(help="Another run's: the two side by side.")] = None,
    out: Annotated[Path | None, typer.Option(**PATH, help="Folder for the report of two runs.")] = None,
    questions: Texts = None,
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", metavar="A=B", help="Of two runs: arm A of the first is B of the second; repeatable."),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", metavar="A=B", help="Of two runs: the first's data set A is B of the second."),
    ] = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Draw the report of a run or study again, an interrupted one as far as it went; or put two runs side by side."""
    with clear_errors():
        from ..storage.run_folder import claimed_config
        from ..study.kinds import study_in

        of, registry = claimed_config(run_dir).get("kind"), registry_with(plugin)
        if of in registry.others("report") and other is None and out is None:
            registry.other("report", of)(run_dir)
            _say_report(run_dir, as_json=as_json)
            return
        kind = study_in(run_dir, registry)
        pairs = {"arms": _pairs(arm, "--arm"), "datasets": _pairs(dataset, "--dataset")}
        renamed = {what: named for what, named in pairs.items() if named}
        if other is not None:
            if questions:
                raise SettingError(
                    "Expected --questions beside one run, got two runs, whose report shows no questions."
                )
            _side_by_side(run_dir, other, out, registry, renamed, as_json=as_json)
            return
        if renamed:
            raise SettingError(
                "Expected --arm and --dataset beside two runs, whose names they pair, got one; leave it."
            )
        if out is not None:
            raise SettingError(f"Expected --out beside two runs, got one; its report is drawn in {run_dir}.")
        for said in kind.draw(run_dir, questions or []):
            say(said, err=True)
        _say_report(run_dir, as_json=as_json)


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """Names in the second run by those in the first."""
    pairs: dict[str, str] = {}
    for text in texts or ():
        one, equals, other = (part.strip() for part in text.partition("="))
        if not (one and equals and other) or one in pairs or other in pairs.values():
            raise SettingError(f"Expected {option} A=B, each name once, got {text!r}: {option} nearest=adaptive, say.")
        pairs[one] = other
    return pairs


def _say_report(run_dir: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(read_json(run_dir / "summary.json", "run the study again"))
    else:
        say(f"Report: {run_dir / 'report.html'}")


def _side_by_side(
    run_dir: Path, other: Path, out: Path | None, registry: Registry, renamed: Mapping[str, object], *, as_json: bool
) -> None:
    from ..elsewhere import where
    from ..study.kinds import study_in

    kind, another = (study_in(run, registry).kind for run in (run_dir, other))
    if another != kind:
        raise SettingError(f"Expected two runs of one kind, got {kind} and {another}; report each.")
    if kind not in registry.others(TWO):
        hint = where(kind, TWO) or "report each."
        raise SettingError(f"Expected two runs of a kind that is compared side by side, got {kind}; {hint}")
    found, table = registry.other(TWO, kind)(run_dir, other, out, **renamed)
    if as_json:
        print_json(found)
    else:
        show(table, out, wide=True)
