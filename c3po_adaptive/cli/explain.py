"""The command that explains one question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError, SettingError
from ..progress import working
from ..storage.run_folder import COMMAND
from .options import PATH, AsJson, Format, ModelOptions, Picture, Plugins, registry_with
from .terminal import clear_errors, print_json, say


def explain(
    text: Annotated[str, typer.Argument(help="A question, or any text.")],
    *,
    choice: Annotated[list[str] | None, typer.Option("--choice", help="An option; repeatable.")] = None,
    answer: Annotated[str | None, typer.Option(help="The right one of them, which upper bounds look at.")] = None,
    refset: Annotated[str, typer.Option(help="Labeled questions: a file, folder, benchmark, built set.")] = "demo",
    arm: Annotated[
        str, typer.Option(help="One of the demo's arms, or the name of an optimizer or a selector.")
    ] = "ngd",
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value, over the arm; repeatable.")] = None,
    html: Annotated[Path | None, typer.Option(**PATH, help="Also write a page there.")] = None,
    picture: Picture = None,
    model: ModelOptions,
    format: Format = "cloze",
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """How one question is re-mixed: neighbours, layers, pathway and options, before and after."""
    with clear_errors():
        from ..api import Optimizer
        from ..pictures import check_picture, save_picture
        from ..references.build import labeled_questions, reference_set_of
        from ..references.embedding import default_embedder
        from ..references.model_embedding import embedder_of
        from ..references.reference_set import ReferenceSet, is_reference_set
        from ..storage.text_checksum import EXPLANATION, check_page
        from ..study.arms import arms_by_name, parse_arm
        from ..tasks.formats import as_format

        choices = choice or []
        if answer is not None and answer not in choices:
            raise SettingError(f"Expected --answer to be one of the choices {choices}, got {answer!r}.")
        if html is not None and not html.absolute().parent.is_dir():
            raise DataError(f"Expected --html in a folder that there is, got {html}; make {html.parent} first.")
        if html is not None:
            check_page(html, EXPLANATION)
        if picture is not None:
            check_picture(picture)
        registry = registry_with(plugin)
        chosen = parse_arm(arms_by_name([arm], registry)[arm], set or [])
        if chosen.name_of("answerer") != "remix":
            raise SettingError(
                f"Expected an arm that re-mixes, got one that {chosen.name_of('answerer')} answers; name another --arm."
            )
        put = as_format(format)
        asked = put if choices else None  # without choices it is raw text, beside references as cloze
        specs = {role: spec for role, spec in chosen.specs.items() if role != "answerer"}
        registry.strategies(specs)
        built = ReferenceSet.load(refset) if is_reference_set(refset) else None
        labeled = [] if built else labeled_questions(refset)
        loaded = model.loaded()
        embedder = embedder_of(built, loaded) if built else default_embedder()
        references = built or reference_set_of(labeled, loaded, embedder, asked or as_format("cloze"))
        with working("strategies"):
            c3po = Optimizer(
                loaded,
                references,
                registry=registry,
                format=asked,
                settings=chosen.remixing,
                embedder=embedder,
                optimizer=chosen.optimizer,
                kernel=chosen.kernel,
                retriever=chosen.retriever,
                selector=chosen.selector,
            )
        with working("explanation"):
            found = c3po.explain(text, choices, None if answer is None else choices.index(answer))
        if as_json:
            print_json(found.values())
        else:
            say(str(found))
        if picture is not None:
            say(f"\nPicture: {save_picture(found.plot(), picture)}", err=as_json)
        if html is not None:
            say(f"\nPage: {found.save(html, COMMAND.get())}", err=as_json)
