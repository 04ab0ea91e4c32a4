"""``c3po``: the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import C3POError, DataError, SettingError, UnknownNameError
from .progress import Paused, bar, limited

if TYPE_CHECKING:
    from rich.table import Table

    from .config import RunConfig
    from .registry import Registry

app = typer.Typer(
    help="Re-mix the expert pathways of frozen Mixture-of-Experts language models at test time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
refset = typer.Typer(help="Reference sets: labelled questions run along the model's own pathway.", no_args_is_help=True)
plugins = typer.Typer(help="Strategies, and where they come from.", no_args_is_help=True)
study = typer.Typer(help="Studies: a configuration in, results out.", no_args_is_help=True)
app.add_typer(refset, name="refset")
app.add_typer(plugins, name="plugins")
app.add_typer(study, name="study")

DEMO_LIMIT = 112  # half of the demo's test questions: some minutes on two cores

PAUSED = 3  # exit status of a study that has more to do

Out = Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run there is resumed.")]
Model = Annotated[str, typer.Option("--model", help="smollm2-moe, OLMoE, DeepSeekMoE, a Hub id, or a folder.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps, or auto: spread over all, disk included.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")]
Quantize = Annotated[str | None, typer.Option(help="4bit or 8bit: linear layers, by bitsandbytes.")]
Format = Annotated[str, typer.Option(help="cloze or letter.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value, over the configuration; repeatable.")]
Minutes = Annotated[float | None, typer.Option(help=f"Stop after so many, with status {PAUSED}; again, it goes on.")]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="A plugin file; repeatable.")]


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Errors raised on purpose end the command with their message alone."""
    try:
        yield
    except C3POError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    except Paused as pause:
        typer.echo("the minutes are over; the same command goes on from here", err=True)
        raise typer.Exit(PAUSED) from pause


def _registry(files: list[Path] | None) -> Registry:
    from .registry import new_registry

    registry = new_registry()
    for file in files or []:
        registry.load_file(file)
    return registry


def _run(config: RunConfig, out: Path, registry: Registry, minutes: float | None = None) -> None:
    from .evaluate import evaluate
    from .summary import sentences

    summary = evaluate(config, out, registry=registry, progress=_progress(minutes))
    _print_rows(summary)
    typer.echo(f"\nReport: {out / 'report.html'}\n")
    for sentence in sentences(summary):
        typer.echo(sentence)


def _progress(minutes: float | None) -> Any:
    return bar if minutes is None else limited(bar, minutes)


def _print(table: Table) -> None:
    from rich.console import Console

    # In a pipe rich assumes 80 columns, and cuts names off.
    Console(width=max(80, Console().width) if sys.stdout.isatty() else 160).print(table)


def _print_rows(summary: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("data set", "arm", "n", "accuracy", "gain [95 %]", "up/down", "NLL", "layers", "cost")
    for r in summary["rows"]:
        gain = "" if r["arm"] == summary["baseline"] else f"{r['gain']:+.1f} [{r['ci_low']:+.1f}, {r['ci_high']:+.1f}]"
        table.add_row(
            r["dataset"],
            r["arm"],
            str(r["n"]),
            f"{r['accuracy']:.1f}",
            gain,
            f"{r['flips_up']}/{r['flips_down']}",
            f"{r['nll']:.3f}",
            f"{r['layers']:.1f}",
            f"{r['cost']['total']:.1f}",
        )
    _print(table)


@app.command()
def demo(
    out: Out = Path("runs/demo"),
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"So many, spread over the kinds; {DEMO_LIMIT} of the demo's own."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", help="Only these arms (or optimizers, or selectors) beside the base; repeatable."),
    ] = None,
    questions: Annotated[Path | None, typer.Option(help="Test questions (JSONL) instead of the demo's.")] = None,
    references: Annotated[list[Path] | None, typer.Option(help="Labelled questions (JSONL); repeatable.")] = None,
    model: Model = "smollm2-moe",
    dtype: Dtype = "auto",
    device: Device = None,
    quantize: Quantize = None,
    format: Format = "cloze",
    plugin: Plugins = None,
) -> None:
    """Base, fixed and adaptive re-mixing side by side on the embedded model and real questions, with a report."""
    with _clear_errors():
        from .arms import DEMO_ARMS, DEMO_COMPARED, DEMO_HEADLINE, arms_by_name
        from .config import parse_config

        registry = _registry(plugin)
        names = list(DEMO_ARMS) if not arm else list(dict.fromkeys(["base", *arm]))
        data: dict[str, Any] = {"name": "demo", "questions": "demo", "split": "test", "limit": limit or DEMO_LIMIT}
        if questions is not None:
            data |= {"name": questions.stem, "questions": str(questions), "split": None, "limit": limit}
        data |= (
            {"references": [str(r) for r in references]}
            if references
            else {
                "references": ["demo"],
                "references_split": "references",
            }
        )
        config = parse_config(
            {
                "model": model,
                "dtype": dtype,
                "device": device,
                "quantize": quantize,
                "format": format,
                "datasets": [data],
                "arms": {n: a.model_dump() for n, a in arms_by_name(names, registry).items()},
                "headline": DEMO_HEADLINE if DEMO_HEADLINE in names else None,
                "compare": [pair for pair in DEMO_COMPARED if {*pair} <= {*names}],
            }
        )
        _run(config, out, registry)


@app.command()
def evaluate(
    config: Annotated[Path, typer.Option(help="YAML: model, datasets, arms.")],
    out: Out,
    set: Settings = None,
    plugin: Plugins = None,
    minutes: Minutes = None,
) -> None:
    """Run the arms of a configuration on its data sets."""
    with _clear_errors():
        from .config import load_config

        _run(load_config(config, set or []), out, _registry(plugin), minutes)


@study.command("run")
def study_run(config: Path, out: Out, set: Settings = None, plugin: Plugins = None, minutes: Minutes = None) -> None:
    """Run a study's configuration: arms on questions, or of another ``kind``: speed, faithfulness."""
    match _kind(config):
        case "speed":
            _run_speed(config, out, set or [], plugin, minutes)
        case "faithfulness":
            _run_faithfulness(config, out, set or [], plugin, minutes)
        case _:
            evaluate(config, out, set, plugin, minutes)


def _kind(config: Path) -> str | None:
    with _clear_errors():
        from .config import read_yaml

        return read_yaml(config).get("kind")


def _plan_speed(config: Path, settings: list[str]) -> None:
    with _clear_errors():
        from .config import load_speed_config

        parsed = load_speed_config(config, settings)
        for name, case in parsed.all_cases().items():
            typer.echo(f"{name}, {parsed.repeats} times: {case.model_dump(exclude_defaults=True) or 'defaults'}")
        for name, search in parsed.searches.items():
            if parsed.wanted(name):
                typer.echo(f"{name}: {search.model_dump(exclude_defaults=True) or 'defaults'}")


def _run_speed(config: Path, out: Path, settings: list[str], plugin: list[Path] | None, minutes: float | None) -> None:
    with _clear_errors():
        from rich.table import Table

        from .config import load_speed_config
        from .speed import run_speed

        summary = run_speed(
            load_speed_config(config, settings), out, registry=_registry(plugin), progress=_progress(minutes)
        )
        columns = ("case", "model", "ratio", "ratio_min", "ratio_max", "flops_ratio", "over_flops", "n")
        table = Table(*columns)
        for row in summary["rows"]:
            table.add_row(*(str(row[key]) for key in columns))
        _print(table)
        for row in summary["searches"]:
            typer.echo(
                f"{row['search']}: top 3 of {row['references']:,} in {row['milliseconds']} ms (exactly: "
                f"{row['exact_milliseconds']} ms), recall {row['recall']}"
            )
        typer.echo(f"\nReport: {out / 'report.html'}")


def _run_faithfulness(
    config: Path, out: Path, settings: list[str], plugin: list[Path] | None, minutes: float | None
) -> None:
    with _clear_errors():
        from rich.table import Table

        from .config import load_faithfulness_config
        from .faithfulness import run_faithfulness

        parsed = load_faithfulness_config(config, settings)
        summary = run_faithfulness(parsed, out, registry=_registry(plugin), progress=_progress(minutes))
        table = Table("data set", "score", *summary["truths"], "cost")
        for row in summary["rows"]:
            found = [
                f"{row[t]['mean']:+.2f} [{row[t]['ci_low']:+.2f}, {row[t]['ci_high']:+.2f}]" for t in summary["truths"]
            ]
            table.add_row(row["dataset"], row["score"], *found, f"{row['cost']:.2f}")
        _print(table)
        typer.echo(f"\nReport: {out / 'report.html'}")


def _plan_faithfulness(config: Path, settings: list[str]) -> None:
    with _clear_errors():
        from .config import load_faithfulness_config
        from .evaluate import questions_of, references_of

        parsed = load_faithfulness_config(config, settings)
        for dataset in parsed.datasets:
            asked, labelled = questions_of(dataset), references_of(dataset)
            typer.echo(f"{dataset.name}: {len(asked)} questions, {len(labelled)} references")
        typer.echo(f"re-mixed by {parsed.arm.model_dump(exclude_defaults=True) or 'defaults'}")
        for name, spec in parsed.scores.items():
            typer.echo(f"  {name}: {spec}")


@study.command("plan")
def study_plan(config: Path, set: Settings = None) -> None:
    """Show what a study would run, without running it."""
    match _kind(config):
        case "speed":
            _plan_speed(config, set or [])
            return
        case "faithfulness":
            _plan_faithfulness(config, set or [])
            return
    with _clear_errors():
        from .config import load_config
        from .evaluate import texts_of

        parsed = load_config(config, set or [])
        for dataset, (asked, labelled) in texts_of(parsed).items():
            typer.echo(f"{dataset}: {len(asked)} questions, {len(labelled)} references")
            for name, one in parsed.arms.items():
                typer.echo(f"  {name}: {one.model_dump(exclude_defaults=True) or 'defaults'}")


@app.command()
def explain(
    text: Annotated[str, typer.Argument(help="A question, or any text.")],
    choice: Annotated[list[str] | None, typer.Option("--choice", help="An option; repeatable.")] = None,
    answer: Annotated[str | None, typer.Option(help="The right one of them, which upper bounds look at.")] = None,
    refset: Annotated[
        Path | None, typer.Option(help="Labelled questions (JSONL), or a built set; the demo's references.")
    ] = None,
    arm: Annotated[
        str, typer.Option(help="One of the demo's arms, or the name of an optimizer or a selector.")
    ] = "ngd-attribution",
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value, over the arm; repeatable.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page there.")] = None,
    model: Model = "smollm2-moe",
    dtype: Dtype = "auto",
    device: Device = None,
    quantize: Quantize = None,
    format: Format = "cloze",
    plugin: Plugins = None,
) -> None:
    """How one question is re-mixed: neighbours, layers, pathway and options, before and after."""
    with _clear_errors():
        from .api import Optimizer, reference_set_of
        from .arms import arms_by_name
        from .config import parse_arm
        from .embedding import default_embedder
        from .loading import load_moe_model
        from .tasks import demo_questions
        from .tasks.formats import as_format

        choices = choice or []
        if answer is not None and answer not in choices:
            raise SettingError(f"Expected --answer to be one of the choices {choices}, got {answer!r}.")
        if html is not None and not html.absolute().parent.is_dir():
            raise DataError(f"Expected --html in a folder that there is, got {html}; make {html.parent} first.")
        registry = _registry(plugin)
        chosen = parse_arm(arms_by_name([arm], registry)[arm], set or [])
        loaded = load_moe_model(model, dtype=dtype, device=device, quantize=quantize)
        asked = as_format(format) if choices else None  # without choices it is raw text, beside references as cloze
        references: Any = refset
        if refset is None:
            put = asked or as_format("cloze")
            references = reference_set_of(demo_questions("references"), loaded, default_embedder(), put)
        settings = dict(chosen) | {"seed": chosen.seed_in(0)}
        found = Optimizer(loaded, references, registry=registry, format=asked, **settings).explain(
            text, choices, None if answer is None else choices.index(answer)
        )
        typer.echo(str(found))
        if html is not None:
            typer.echo(f"\nPage: {found.save(html)}")


@app.command()
def report(
    run_dir: Path,
    questions: Annotated[list[Path] | None, typer.Option(help="JSONL with the questions' texts; repeatable.")] = None,
) -> None:
    """Draw the report of a run or study again; that of a run with question texts from local files."""
    with _clear_errors():
        from .records import claimed_config

        claimed = claimed_config(run_dir)
        match claimed.get("kind"):
            case None:
                _redraw_run(run_dir, claimed, questions or [])
            case "faithfulness":
                from .faithfulness import redraw

                redraw(run_dir)
            case kind:
                raise DataError(f"Expected a run, or a study of faithfulness, got a study of {kind}; run that again.")
        typer.echo(f"Report: {run_dir / 'report.html'}")


def _redraw_run(run_dir: Path, claimed: dict[str, Any], questions: list[Path]) -> None:
    from .config import parse_config
    from .evaluate import conclude, redraw, texts_of
    from .tasks.loaders import load_questions

    inputs = claimed.pop("inputs", {})
    config = parse_config(claimed)
    given = [q for file in questions for q in load_questions(file)]
    texts: dict[str, Any] = {d.name: (given, given) for d in config.datasets} if given else {}
    if not given:
        try:
            texts = texts_of(config)
        except DataError as error:
            typer.echo(f"ids instead of texts: {error}", err=True)
    if (run_dir / "summary.json").is_file():
        redraw(run_dir, texts)
    else:
        conclude(run_dir, config, inputs, texts)


@refset.command("build")
def refset_build(
    file: Path,
    out: Annotated[Path, typer.Option("--out", help="Folder of the reference set.")],
    model: Model = "smollm2-moe",
    dtype: Dtype = "auto",
    device: Device = None,
    quantize: Quantize = None,
    revision: Revision = None,
    format: Format = "cloze",
) -> None:
    """Run labelled questions (JSONL or a JSON array) and keep their pathways. Interrupted, it goes on."""
    with _clear_errors():
        from .embedding import default_embedder
        from .loading import load_moe_model
        from .reference import build_reference_set
        from .tasks.formats import as_format
        from .tasks.loaders import load_questions

        labelled = load_questions(file)
        if out.exists():
            raise DataError(f"Expected a new folder for the reference set, {out} exists; name another --out.")
        parts = out.with_name(f".{out.name}.parts")
        built = build_reference_set(
            load_moe_model(model, dtype=dtype, device=device, quantize=quantize, revision=revision),
            labelled,
            default_embedder(),
            format=as_format(format),
            scratch=parts,
            progress=bar("references"),
        )
        built.save(out)
        with suppress(OSError):  # those of a build with other arguments stay, to be gone on with
            parts.rmdir()
        typer.echo(f"{len(built)} references, {len(built.successes)} answered right: {out}")


@refset.command("warm")
def refset_warm(
    folder: Path,
    model: Model = "smollm2-moe",
    dtype: Dtype = "auto",
    device: Device = None,
    quantize: Quantize = None,
    revision: Revision = None,
    format: Format = "cloze",
    kept: Annotated[str, typer.Option(help="Precision on disk: auto (the model's), float32, bfloat16.")] = "auto",
) -> None:
    """Keep what re-mixing needs of a set's references on disk beside it. Interrupted, it goes on."""
    with _clear_errors():
        from .footprint import as_dtype
        from .loading import DTYPES, load_moe_model
        from .reference import ReferenceSet
        from .tasks.formats import as_format
        from .warm import warm

        if kept not in DTYPES:
            raise SettingError(f"Expected --kept among {', '.join(DTYPES)}, got {kept!r}.")
        store = warm(
            ReferenceSet.load(folder),
            load_moe_model(model, dtype=dtype, device=device, quantize=quantize, revision=revision),
            folder / "warm",
            format=as_format(format),
            dtype=None if kept == "auto" else as_dtype(kept),
            progress=bar("references"),
        )
        size = sum(file.stat().st_size for file in store.folder.iterdir())
        typer.echo(f"{len(store.prompts)} references, {size / 2**20:.1f} MiB: {store.folder}")


@refset.command("show")
def refset_show(folder: Path) -> None:
    """Print a reference set's card."""
    with _clear_errors():
        from rich.console import Console

        from .reference import ReferenceSet

        Console().print_json(data=ReferenceSet.load(folder).card)


@refset.command("check")
def refset_check(
    folder: Path,
    model: Model = "smollm2-moe",
    dtype: Dtype = "auto",
    device: Device = None,
    quantize: Quantize = None,
    revision: Revision = None,
    format: Format = "cloze",
) -> None:
    """Check that a reference set is whole, and fits a model and a format."""
    with _clear_errors():
        from .embedding import default_embedder
        from .loading import load_moe_model
        from .reference import ReferenceSet

        ReferenceSet.load(folder).check(
            load_moe_model(model, dtype=dtype, device=device, quantize=quantize, revision=revision),
            format,
            default_embedder(),
        )
        typer.echo("whole, and built with this model, format and embedder")


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Alias, Hub id or folder: only its size, before loading.")] = None,
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    revision: Revision = None,
) -> None:
    """Families of models, and what works for each; others are found by structure, or refused with the reason."""
    if name is not None:
        with _clear_errors():
            from .loading import model_footprint

            typer.echo(model_footprint(name, dtype=dtype, quantize=quantize, revision=revision))
        return
    from rich.table import Table

    from .families import ABILITIES, families, reason

    table = Table("family", *ABILITIES, "tails", "note")
    for family, row in families().items():
        works = ["yes" if row.get(a) is True else "no" for a in ABILITIES]
        table.add_row(family, *works, str(row.get("layout", "")), reason(row))
    _print(table)


@plugins.command("list")
def plugins_list(plugin: Plugins = None) -> None:
    """Every strategy by role, with where it comes from."""
    with _clear_errors():
        from rich.table import Table

        table = Table("role", "name", "from", "what it does")
        for entry in _registry(plugin).table():
            table.add_row(entry.role, entry.name, entry.plugin, entry.doc)
        _print(table)


@plugins.command("show")
def plugins_show(name: str, plugin: Plugins = None) -> None:
    """A strategy's parameters with their defaults, and what they mean."""
    with _clear_errors():
        registry = _registry(plugin)
        entries = [entry for entry in registry.table() if entry.name == name]
        if not entries:
            known = ", ".join(sorted({entry.name for entry in registry.table()}))
            raise UnknownNameError(f"Expected the name of a strategy among {known}, got {name!r}.")
        for entry in entries:
            typer.echo(f"{entry.role} {entry.name} ({entry.plugin})\n\n{entry.help}\n")
            for key, value in entry.parameters.items():
                typer.echo(f"  {key}: {'must be given' if value is MISSING else repr(value)}")


@plugins.command("check")
def plugins_check(file: Path) -> None:
    """Load a plugin file and say what it registers."""
    with _clear_errors():
        registry = _registry([file])
        for entry in registry.table():
            if entry.plugin == str(file.resolve()):
                typer.echo(f"{entry.role} {entry.name}: {entry.cls.__name__} loads; c3po_adaptive.testing tests it")
