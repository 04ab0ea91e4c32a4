"""``c3po experts``: which experts a set of texts needs least."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from c3po_adaptive import bar, check_new
from c3po_adaptive.cli import PATH, AsJson, ModelOptions, clear_errors, print_json, print_table, say

if TYPE_CHECKING:
    from c3po_adaptive import RoutedModel

    from .ranking import RankedExpert, Ranking

SHOWN = 2
"""Experts of a layer, on a terminal."""
FEW = 3
"""Texts: an expert that fewer use is named."""
NAMED = 5
"""Texts that cover most of these experts."""
QUARTER = 0.25


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
    ban: Annotated[
        list[str] | None,
        typer.Option(
            help="Also what a ban of each costs, in nats a token: least:2 or most:2 of each layer, or 3,5@16; "
            "repeatable."
        ),
    ] = None,
    peft: Annotated[
        Path | None, typer.Option("--peft", **PATH, help="A new JSON file for PEFT's LoraConfig: adapters of --target.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Experts for --peft, as for --ban, or costly:4, whose ban costs most. Default: most:1; repeatable."
        ),
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
        from c3po_benchmarks import texts_of

        from c3po_adaptive import SettingError
        from c3po_adaptive.study import write_text

        from .choice import USUAL
        from .lora import lora_targets
        from .ranking import rank_experts

        ban, wanted = ban or [], target or [USUAL]
        if target and peft is None:
            raise SettingError("Expected --peft beside --target, got none; name the file that targets go to.")
        for path, what in ((out, "the ranking"), (peft, "the LoRA targets")):
            if path is not None:
                check_new(path, what)
        routed = model.loaded()
        if peft is not None:
            _check_targets(routed, ban, wanted)
        found = rank_experts(routed, texts_of(texts, limit=limit), ban=ban, seed=seed, progress=bar)
        if out is not None:
            found.write(out)
        if as_json:
            rows = [one._asdict() for one in found.experts]
            print_json({"model": found.model, "texts": found.texts, "steady": found.steady(QUARTER), "experts": rows})
        else:
            _show(found)
            if out is not None:
                say(f"Ranking: {out}")
        if peft is not None:
            named = found.chosen(*wanted)
            targets = lora_targets(routed, named)
            write_text(peft, json.dumps(targets, indent=2) + "\n")
            if not as_json:
                say(f"LoRA targets: {peft}, {_reached(named, whole='target_parameters' in targets)}")


def _check_targets(model: RoutedModel, ban: list[str], wanted: list[str]) -> None:
    """Refuse what cannot be adapted before texts are read."""
    from .choice import chosen
    from .lora import lora_targets

    order = dict.fromkeys(model.layers, range(model.n_experts))
    chosen(wanted, order, dict.fromkeys(chosen(ban, order), 0.0))
    lora_targets(model, dict.fromkeys(model.layers))


def _show(found: Ranking) -> None:
    by_layer: dict[int, list[str]] = {}
    for one in found.experts:
        by_layer.setdefault(one.layer, []).append(_ranked(one))
    rows = [[str(layer), "; ".join(each[:SHOWN]), "; ".join(each[-SHOWN:])] for layer, each in by_layer.items()]
    say(f"{found.model}: {found.texts} texts; an expert's number, weight × output's norm, load, and rank of 95 %")
    print_table(["layer", "added least by", "added most by"], rows)
    if steady := found.steady(QUARTER):
        mean, worst = sum(steady.values()) / len(steady), min(steady, key=lambda layer: steady[layer])
        say(
            f"Of the quarter that adds least, as far as texts use it, {100 * mean:.0f} % would do so on other texts of "
            f"the kind, too; of layer {worst} {100 * steady[worst]:.0f} %."
        )
    if rare := found.rare(FEW):
        say(f"{len(rare)} of {len(found.experts)} experts are used by fewer than {FEW} texts; {_covered(rare)}.")
    if banned := [one for one in found.experts if one.ban_cost is not None]:
        say("What a ban of one expert costs, nats a token [95 %]:")
        costs = sorted(banned, key=lambda one: -(one.ban_cost or 0))
        print_table(["layer", "expert", "rank", "load", "ban costs"], [_cost_row(one) for one in costs])


def _ranked(one: RankedExpert) -> str:
    if not one.texts:
        return f"{one.expert}: not used"
    return f"{one.expert}: {one.saliency:.2f} ({100 * one.load:.1f} %, rank {one.rank_low} to {one.rank_high})"


def _covered(rare: list[RankedExpert]) -> str:
    """By how many texts, and by which most."""
    unused = sum(not one.texts for one in rare)
    covering = Counter(text for one in rare for text in one.most).most_common(NAMED)
    which = ", ".join(f"text {text} uses {count}" for text, count in covering)
    return f"{unused} of them by none" + (f". Of the other {len(rare) - unused}, {which}" if which else "")


def _cost_row(one: RankedExpert) -> list[str]:
    cost = f"{one.ban_cost:+.4f} [{one.ban_low:+.4f}, {one.ban_high:+.4f}]"
    return [str(one.layer), str(one.expert), str(one.rank), f"{100 * one.load:.1f} %", cost]


def _reached(wanted: dict[int, list[int]], *, whole: bool) -> str:
    if whole:
        layers = ", ".join(map(str, wanted))
        return f"all experts of layers {layers}: they lie together in parameters, which PEFT adapts whole"
    return "; ".join(f"experts {', '.join(map(str, some))} of layer {layer}" for layer, some in wanted.items())
