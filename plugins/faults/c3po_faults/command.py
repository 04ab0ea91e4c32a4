"""The command that plants a fault in a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from c3po_adaptive.cli import (
    PATH,
    AsJson,
    Dtype,
    LoadOptions,
    NamedModel,
    Revision,
    clear_errors,
    print_json,
    say,
    working,
)
from c3po_adaptive.errors import SettingError


def fault(
    which: NamedModel,
    out: Annotated[Path, typer.Option("--out", **PATH, help="A new folder for the copy.")],
    kind: Annotated[
        Literal["exchange", "weaken", "strengthen", "noise"], typer.Option(help="What becomes of experts' router rows.")
    ] = "exchange",
    layers: Annotated[
        str, typer.Option(help="last-N, first-N, spread-N, all, none, or decoder layers such as 16,17,20.")
    ] = "last-5",
    pair: Annotated[list[str] | None, typer.Option("--pair", help="Experts to exchange: 5-11; repeatable.")] = None,
    expert: Annotated[
        list[int] | None,
        typer.Option("--expert", help="To weaken or strengthen, or of noisy rows (all if none is named); repeatable."),
    ] = None,
    dose: Annotated[float, typer.Option(help="0 changes nothing, 1 is the whole exchange.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of noise.")] = 0,
    concerns: Annotated[
        list[str] | None,
        typer.Option("--concerns", help="EXPERT=KIND of questions that it is for, kept with the truth; repeatable."),
    ] = None,
    dtype: Dtype = "auto",
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """A copy of a model with a known fault in its routers, to see whether methods find it: a stock checkpoint.

    Its truth is beside it, in fault.json: layers, experts, dose, and what undoes it.
    """
    model, _ = which.then()
    with clear_errors():
        from transformers.utils.logging import disable_progress_bar

        from c3po_adaptive import check_new

        from .fault_files import write_faulty
        from .faults import fault_of, layers_of

        given: dict[str, object] = {
            "kind": kind,
            "pairs": [_pair(text) for text in pair or []],
            "experts": expert or [],
            "dose": dose,
            "seed": seed,
            "concerns": _concerns(concerns or []),
        }
        check_new(out, "folder for the copy")
        fault_of(given)  # what cannot be is refused before the model is loaded
        loaded = LoadOptions(revision, dtype).load(model)
        planned = fault_of(given | {"layers": layers_of(layers, loaded.layers)})
        disable_progress_bar()  # of shards, under ours
        with working(f"writing {out}"):
            truth = write_faulty(loaded, planned, out)
        if as_json:
            print_json({"out": str(out), **truth})
            return
        where = f"layers {', '.join(map(str, truth['broken']))}" if truth["broken"] else "no layer"
        say(f"{out}: {kind}, dose {dose:g}, in {where}; its truth is in {out / 'fault.json'}")


def _pair(text: str) -> tuple[int, int]:
    a, _, b = text.partition("-")
    if not (_is_number(a) and _is_number(b)):
        raise SettingError(f"Expected two experts as 5-11, got {text!r}; name them by number, from 0 on.")
    return int(a), int(b)


def _is_number(text: str) -> bool:
    from .faults import DIGITS

    return text.strip().isdecimal() and len(text) <= DIGITS


def _concerns(texts: list[str]) -> dict[int, list[str]]:
    """Kinds by expert."""
    found: dict[int, list[str]] = {}
    for expert, kind in map(_concern, texts):
        found.setdefault(expert, []).append(kind)
    return found


def _concern(text: str) -> tuple[int, str]:
    expert, _, kind = text.partition("=")
    if not (_is_number(expert) and kind.strip()):
        raise SettingError(f"Expected an expert and a kind of question as 5=topic, got {text!r}.")
    return int(expert), kind.strip()
