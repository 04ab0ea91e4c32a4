"""Commands about reference sets."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError, SettingError
from ..progress import bar, printable
from ..storage.folders import check_new
from .options import PATH, AsJson, EngineOptions, Format, ModelOptions, grouped
from .terminal import App, clear_errors, print_json, say

SUSPECTS = 20
"""That are shown, the most suspicious first."""
app = App(help="Reference sets: labeled questions run along the model's own pathway.", no_args_is_help=True)


@app.command("build")
@grouped
def refset_build(
    source: Annotated[str, typer.Argument(help="Labeled questions: file, folder, benchmark or demo; NAME:SPLIT.")],
    out: Annotated[Path, typer.Option("--out", **PATH, help="A new folder, of the reference set.")],
    *,
    model: ModelOptions,
    format: Format = "cloze",
    engine: EngineOptions,
) -> None:
    """Run labeled questions and keep their pathways. Interrupted, it resumes."""
    with clear_errors():
        from ..references.build import forget_shards, labeled_questions
        from ..study.executor import device_here
        from ..study.reference_shards import build_set_by
        from ..tasks.formats import as_format
        from ..tasks.same_questions import distinct

        executor = engine.executor()
        as_format(format)  # refused before the model is loaded
        labeled = labeled_questions(source)
        check_new(out, "folder for the reference set")
        parts = out.with_name(f".{out.name}.parts")
        loaded = replace(model, device=device_here(executor, model.device, model.quantize)).loaded()
        built = build_set_by(executor, loaded, model.values, labeled, format=format, scratch=parts, progress=bar)
        built.save(out)
        forget_shards(built, parts)
        with suppress(OSError):  # those of a build with other arguments stay, to be resumed
            parts.rmdir()
        twice = len(distinct(labeled)[1])
        said = f", {twice} of them given again under another id" if twice else ""
        say(f"{len(built)} references{said}, {len(built.successes)} answered right: {out}")


@app.command("warm")
@grouped
def refset_warm(
    folder: Path,
    *,
    model: ModelOptions,
    format: Format = "cloze",
    precision: Annotated[
        str, typer.Option("--kept", help="Precision on disk: auto (the model's), float32, bfloat16.")
    ] = "auto",
    engine: EngineOptions,
) -> None:
    """Keep what re-mixing needs of a set's references on disk beside it. Interrupted, it resumes."""
    with clear_errors():
        from ..models.loading import DTYPES
        from ..references.reference_set import WARM, ReferenceSet
        from ..study.executor import device_here
        from ..study.reference_shards import build_store_by
        from ..tasks.formats import as_format

        executor = engine.executor()
        if precision not in DTYPES:
            raise SettingError(f"Expected --kept among {', '.join(DTYPES)}, got {precision!r}.")
        as_format(format)
        built = ReferenceSet.load(folder)
        loaded = replace(model, device=device_here(executor, model.device, model.quantize)).loaded()
        store = build_store_by(
            executor,
            loaded,
            model.values,
            built,
            folder / WARM,
            format=format,
            precision=precision,
            progress=bar,
        )
        size = sum(file.stat().st_size for file in store.folder.iterdir())
        say(f"{len(store.prompts)} references, {size / 2**20:.1f} MiB: {store.folder}")


@app.command("show")
def refset_show(folder: Path, as_json: AsJson = False) -> None:
    """Print a reference set's card."""
    with clear_errors():
        from rich.console import Console
        from rich.highlighter import JSONHighlighter

        from ..references.reference_set import ReferenceSet

        card = ReferenceSet.load(folder).card
        if as_json:
            print_json(card)
        else:
            text = printable(json.dumps(card, indent=2, ensure_ascii=False))
            Console().print(JSONHighlighter()(text), soft_wrap=True)


@app.command("check")
@grouped
def refset_check(
    folder: Path,
    *,
    model: ModelOptions,
    format: Format = "cloze",
    suspects: Annotated[
        bool, typer.Option("--suspects", help="Name references whose nearest ones vote for another answer.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a reference set is whole, with all that is stored beside it, and fits a model and a format."""
    with clear_errors():
        from ..references.agreement import suspects as suspects_among
        from ..references.learned import damaged_beside
        from ..references.model_embedding import embedder_of
        from ..references.reference_set import ReferenceSet
        from ..tasks.formats import as_format

        put = as_format(format)
        built = ReferenceSet.load(folder)
        if found := damaged_beside(built):
            raise DataError("\n".join([f"Expected what is kept beside {folder} as it was written, got:", *found]))
        loaded = model.loaded()
        built.check(loaded, put, embedder_of(built, loaded))
        doubted = suspects_among(built.questions, built.vectors) if suspects else []
        if as_json:
            whole = {"whole": True, "references": len(built), "successes": len(built.successes)}
            named = {"suspects": [asdict(one) for one in doubted]} if suspects else {}
            print_json({**whole, **named})
            return
        say("whole, and built with this model, format and embedder")
        if suspects:
            say(f"{len(doubted)} of {len(built)} references have nearest ones that vote for another answer")
        for one in doubted[:SUSPECTS]:
            say(f"{one.suspicion:.2f} {one.id}: says {one.answer!r}, they say {one.voted!r}")
        if len(doubted) > SUSPECTS:
            say(f"… and {len(doubted) - SUSPECTS} more, by --json")
