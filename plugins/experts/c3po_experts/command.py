"""``c3po experts``: which experts a set of texts needs least."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from c3po_adaptive import bar, check_new
from c3po_adaptive.cli import PATH, AsJson, ModelOptions, clear_errors, print_json, print_table, say

SHOWN = 2
"""Experts of a layer, on a terminal."""


def experts(
    texts: Annotated[
        str,
        typer.Argument(
            help='Texts: .txt, a line a text; .jsonl, {"text": …}; - for standard input; or '
            "texts:OWNER/NAME:COLUMN:SPLIT of the Hub."
        ),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", **PATH, help="A new file of JSON lines, a row an expert, for what prunes.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="The first so many texts.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling of texts.")] = 0,
    model: ModelOptions,
    as_json: AsJson = False,
) -> None:
    """Rank the experts of each layer by what they add to texts: weight times output's norm, with intervals over texts.

    Nothing is pruned.
    """
    with clear_errors():
        from c3po_adaptive.tasks import texts_of

        from .ranking import rank_experts

        if out is not None:
            check_new(out, "the ranking")
        found = rank_experts(model.loaded(), texts_of(texts, limit=limit), seed=seed, progress=bar)
        if out is not None:
            found.write(out)
        if as_json:
            print_json(
                {"model": found.model, "texts": found.texts, "experts": [one._asdict() for one in found.experts]}
            )
            return
        by_layer: dict[int, list[str]] = {}
        for one in found.experts:
            by_layer.setdefault(one.layer, []).append(
                f"{one.expert}: {one.saliency:.2f} ({100 * one.load:.1f} %, rank {one.rank_low} to {one.rank_high})"
            )
        rows = [[str(layer), "; ".join(each[:SHOWN]), "; ".join(each[-SHOWN:])] for layer, each in by_layer.items()]
        say(f"{found.model}: {found.texts} texts; an expert's number, weight × output's norm, load, and rank of 95 %")
        print_table(["layer", "added least by", "added most by"], rows)
        if out is not None:
            say(f"Ranking: {out}")
