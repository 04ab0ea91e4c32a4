"""The command that says what routing is worth, before any method."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from c3po_adaptive.cli import (
    PATH,
    AsJson,
    Format,
    LoadOptions,
    Minutes,
    NamedModel,
    Overwrite,
    clear_errors,
    folder_name,
    print_json,
    print_table,
    progress_for,
    room_in,
    say,
)


def audit(
    which: NamedModel,
    questions: Annotated[
        str | None,
        typer.Argument(
            help="Labeled questions: a file, a folder, a benchmark, or demo; NAME:SPLIT.", show_default="demo"
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            **PATH,
            help="Folder of the run; an interrupted run there is resumed.",
            show_default="runs/audit/MODEL/QUESTIONS",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which split of them.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="So many, spread over the kinds.")] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Everything in each layer, each expert banned, whatever it costs.")
    ] = False,
    rates: Annotated[
        list[float] | None, typer.Option(help="Learning rate of the label's own descent; repeatable. Usual: methods'.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of permutations and resampling.")] = 0,
    minutes: Minutes = None,
    how: LoadOptions,
    format: Format = "cloze",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """What re-mixing would gain on a model and questions, and what routing is worth there: expected gain, leverage,
    headroom, use of experts, chance; before any method.

    It takes at most 12 base forwards a question, unless --deep. From 40 questions on the expected gain takes more: 8 a
    question on the embedded model, 31 on a merge of four experts.
    """
    model, named = which.then(questions, most=1)
    questions = named or "demo"
    with clear_errors():
        from c3po_adaptive import as_format
        from c3po_adaptive.study import check_folder
        from c3po_adaptive.tasks import ASKED
        from c3po_adaptive.tasks import questions as read

        from .audit_words import trials
        from .plan import USUAL_RATES
        from .run import audit as carried_out
        from .run import check, left_out_of, settings

        tried = tuple(rates or USUAL_RATES)
        asked, put = read(questions, split=split, limit=limit, usual=ASKED), as_format(format)
        check(asked, tried, seed)
        of = [folder_name(part) for part in (questions, split) if part]
        out = out or Path("runs/audit", folder_name(model), "-".join(of))
        for name, why in left_out_of(asked, questions, deep=deep).items():
            say(f"left out: {name}: {why}", err=True)
        if not overwrite:
            check_folder(out, settings(asked, put, deep=deep, rates=tried, seed=seed, dataset=questions), {})
        loaded = how.load(model)
        with room_in(out, overwrite):
            summary = carried_out(
                loaded,
                asked,
                out,
                format=put,
                deep=deep,
                rates=tried,
                seed=seed,
                dataset=questions,
                progress=progress_for(minutes),
                tell=partial(say, err=True),
            )
        if as_json:
            print_json(summary)
            return
        print_table(("routing", "where", "accuracy, points", "loss, nats", "cost"), trials(summary))
        say(f"\nReport: {out / 'report.html'}\n")
        for name, why in summary.left_out.items():
            say(f"left out: {name}: {why}")
        say(f"It took {summary.total_cost:.1f} base forwards a question.")
        say(summary.sentence)
