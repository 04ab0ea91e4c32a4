"""Commands on routing traces: record, import, export, show, replay, diff."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from c3po_adaptive import DataError, SettingError
from c3po_adaptive.cli import (
    PATH,
    App,
    AsJson,
    LoadOptions,
    ModelOptions,
    Picture,
    Plugins,
    Revision,
    Rules,
    clear_errors,
    grouped,
    print_json,
    registry_with,
    rule_of,
    say,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from c3po_adaptive import RoutedModel
    from c3po_adaptive.models.traced import Trace

app = App(help="Routing traces: which experts each token used, on record and forced again.", no_args_is_help=True)

SHOWN = 5  # next tokens, on a terminal

File = Annotated[Path, typer.Argument(help="A trace: a Parquet file of record.")]


@app.command()
@grouped
def record(
    text: Annotated[str, typer.Argument(help="Any text of two tokens or more.")],
    out: Annotated[Path, typer.Option("--out", **PATH, help="The file.")],
    *,
    generate: Annotated[int, typer.Option(min=0, help="Tokens that the model adds, the likeliest at each step.")] = 0,
    logits: Annotated[bool, typer.Option("--logits", help="Keep what the routers made of all experts, too.")] = False,
    rule: Rules = None,
    plugin: Plugins = None,
    model: ModelOptions,
    as_json: AsJson = False,
) -> None:
    """Run a text, and its answer if wanted, and write down the experts that each token used in each layer."""
    with clear_errors():
        from c3po_adaptive.models.traced import check_place, write_trace
        from c3po_adaptive.models.traced import record as recorded
        from c3po_adaptive.tasks import listed

        from .logits import write_with_logits

        check_place(out)  # refused before the model is loaded
        listed(text, "a text")
        along = rule_of(rule, registry_with(plugin))
        if logits and along is not None:
            raise SettingError(
                "Expected --logits of the model's own routing, got a --rule, too; leave one of them out."
            )
        loaded = model.loaded()
        trace = recorded(loaded, text, generate=generate, rule=along)
        if logits:
            write_with_logits(trace, out, _logits(loaded, trace))
        else:
            write_trace(trace, out)
        _say(_shown(trace) | {"file": str(out)}, as_json)


@app.command("import")
@grouped
def import_(
    engine: Annotated[
        str, typer.Argument(help="That wrote the file, of those that plugins read: plugins/vllm has five.")
    ],
    file: Annotated[
        Path,
        typer.Argument(help="transformers' router logits; an answer of vLLM, SGLang or prime-RL; llama.cpp's CSV."),
    ],
    out: Annotated[Path, typer.Option("--out", **PATH, help="The trace.")],
    *,
    tokens: Annotated[
        Path | None, typer.Option(help="JSON list of the token ids of prompt and answer, where FILE has not all.")
    ] = None,
    start: Annotated[int, typer.Option(min=0, help="First token whose experts vLLM or SGLang was asked for.")] = 0,
    plugin: Plugins = None,
    model: ModelOptions,
    as_json: AsJson = False,
) -> None:
    """Make a trace of what another engine says of its routing; the model has to be the one that it ran."""
    with clear_errors():
        from c3po_adaptive.models.traced import check_place, write_trace

        read = registry_with(plugin).other("trace reader", engine)
        check_place(out)
        ids = None if tokens is None else _ids(tokens)
        loaded = model.loaded()
        trace = read(loaded, file, ids, start)
        write_trace(trace, out)
        _say(_shown(trace) | {"file": str(out)}, as_json)


@app.command()
def export(
    file: File,
    *,
    to: Annotated[str, typer.Option("--to", help="The engine, of those that plugins write: vllm or sglang.")],
    out: Annotated[Path, typer.Option("--out", **PATH, help="The file: .json; or .npy, of vLLM's ids alone.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Where decoder layers behind the last MoE layer are dense: its model.")
    ] = None,
    revision: Revision = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Write a trace's expert ids as an engine gives its own; weights have no place there."""
    with clear_errors():
        from c3po_adaptive.models.traced import read_trace

        write = registry_with(plugin).other("trace writer", to)
        trace = read_trace(file)
        layers = trace.layers[-1] + 1
        if model is not None:
            from c3po_adaptive import model_config

            layers = model_config(model, revision).get_text_config().num_hidden_layers
        write(trace, out, layers)
        start = int(trace.recorded.all(-1).long().argmax())
        _say({"tokens": len(trace.tokens), "start": start, "decoder_layers": layers, "file": str(out)}, as_json)


@app.command()
def show(
    file: File,
    other: Annotated[Path | None, typer.Argument(help="With --picture: another trace of the same tokens.")] = None,
    *,
    picture: Picture = None,
    first: Annotated[
        int, typer.Option(min=0, help="With --picture, which shows 64 tokens at most: the one that it begins with.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """What a trace holds; of a second one, too; with --picture tokens × layers, of two what differs."""
    with clear_errors():
        from c3po_adaptive.models.traced import read_trace
        from c3po_adaptive.pictures import check_picture, save_picture

        if picture is None and (other is not None or first):
            raise SettingError("Expected --picture FILE beside a second trace or --first; add it, or see trace diff.")
        trace, second = read_trace(file), None if other is None else read_trace(other)
        if picture is not None:
            check_picture(picture)
            figure = trace.plot(second, names=(file.stem, other.stem if other else ""), first=first)
            say(f"Picture: {save_picture(figure, picture)}", err=as_json)
        if second is None:
            _say(_shown(trace), as_json)
        elif as_json:
            print_json(_shown(trace) | {"other": _shown(second)})
        else:
            for path, held in ((file, trace), (other, second)):
                _say({"trace": str(path)} | _shown(held), as_json=False)


@app.command()
@grouped
def replay(
    file: File,
    *,
    foreign: Annotated[bool, typer.Option("--foreign", help="It may be of a model with other weights.")] = False,
    model: ModelOptions,
    as_json: AsJson = False,
) -> None:
    """Force a trace, and say what its tokens' log-likelihood becomes."""
    with clear_errors():
        from c3po_adaptive.models.traced import behind, likelihoods, read_trace
        from c3po_adaptive.models.traced import replay as replayed

        trace = read_trace(file)
        places, counted = trace.recorded[:-1], behind(trace.recorded)
        loaded = model.loaded()
        forced = replayed(loaded, trace, foreign=foreign).detach()[counted]
        own = likelihoods(loaded, trace)[counted]
        found = {"tokens": len(forced), "places": places.sum().item(), "not_recorded": (~places).sum().item()}
        found |= {"own": own.mean().item(), "replayed": forced.mean().item()}
        weights = "the router's, for ids alone" if trace.weights is None else "the trace's"
        _say(found | {"largest_difference": (forced - own).abs().max().item(), "weights": weights}, as_json)


@app.command()
@grouped
def diff(
    one: Annotated[str, typer.Argument(help="A trace, or a folder of traces; with --texts a model.")],
    other: Annotated[str, typer.Argument(help="Another, of the same tokens.")],
    *,
    texts: Annotated[
        str | None,
        typer.Option(
            help='Run both models on these: .txt, a line a text; .jsonl, {"text": …}; - for standard input; or '
            "texts:OWNER/NAME:COLUMN:SPLIT of the Hub."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many texts.")] = None,
    other_dtype: Annotated[str | None, typer.Option(help="The other model's --dtype, where it is another.")] = None,
    other_quantize: Annotated[str | None, typer.Option(help="Likewise its --quantize.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Of traces: say what it costs in its likelihood.")
    ] = None,
    picture: Picture = None,
    how: LoadOptions,
    as_json: AsJson = False,
) -> None:
    """Where two traces of the same tokens part, or two folders of them, or two models on the same texts."""
    with clear_errors():
        from c3po_adaptive.pictures import check_picture, save_picture

        from .sets_command import of_folders, of_models, say_agreement

        if picture is not None:
            check_picture(picture)
        idle = (
            {"--model": model}
            if texts is not None
            else {"--limit": limit, "--other-dtype": other_dtype, "--other-quantize": other_quantize}
        )
        if said := [name for name, value in idle.items() if value is not None]:
            raise SettingError(
                f"Expected {', '.join(said)} {'without' if texts else 'beside'} --texts, got "
                f"{'both' if texts else 'traces'}; leave it out."
            )
        load = None if model is None else partial(how.load, model)
        if texts is None and Path(one).is_file() and Path(other).is_file():
            figure = _diff_traces(Path(one), Path(other), load, as_json=as_json)
        else:
            if texts is None:
                found = of_folders(one, other, load)
            else:
                second = replace(how, dtype=other_dtype or how.dtype, quantize=other_quantize or how.quantize)
                found = of_models((one, how), (other, second), texts, limit)
            folders = (one, other) if texts is None else None
            print_json(found.values()) if as_json else say_agreement(found, folders)
            figure = found.plot
        if picture is not None:
            say(f"Picture: {save_picture(figure(), picture)}", err=as_json)


def _diff_traces(
    one: Path, other: Path, load: Callable[[], RoutedModel] | None, *, as_json: bool
) -> Callable[[], Figure]:
    """Where two traces part, and what that costs; and what draws them."""
    from c3po_adaptive.models.traced import parted, read_trace, recorded_in_both

    a, b = read_trace(one), read_trace(other)
    where, both = parted(a, b), recorded_in_both(a, b)
    drawn = partial(a.plot, b, names=(one.stem, other.stem))
    places = where.nonzero().tolist()
    by_layer = {str(layer): where[:, row].sum().item() for row, layer in enumerate(a.layers)}
    first = None if not places else {"position": places[0][0], "layer": a.layers[places[0][1]]}
    found: dict[str, object] = {"places": both.sum().item(), "parted": len(places)}
    found["not_recorded"] = (~both).sum().item()
    cost = None if load is None else _cost(load(), a, b, where)
    if as_json:
        print_json(found | {"by_layer": by_layer, "first": first} | ({} if cost is None else {**cost}))
        return drawn
    say(f"one: {one}, other: {other}")
    _say(found, as_json=False)
    if first is not None:
        say(f"first: position {first['position']}, layer {first['layer']}")
    for (layer, count), tokens in zip(by_layer.items(), both.sum(0).tolist(), strict=True):
        if count:
            say(f"  layer {layer}: {count} of {tokens} tokens")
    if cost is not None:
        _say_cost(cost)
    return drawn


def _ids(path: Path) -> list[int]:
    """A JSON list of token ids.

    Raises:
        DataError: something else.
    """
    from c3po_adaptive.study import read_json

    held = read_json(path, "write [1, 2, 3]")
    if not isinstance(held, list) or not all(type(token) is int and 0 <= token < 2**31 for token in held):
        raise DataError(f"{path}: expected a JSON list of token ids, got something else; write [1, 2, 3].")
    return held


class NextToken(TypedDict):
    """A token after a place where two traces part."""

    position: int
    layers: list[int]
    difference: float


class LikelihoodOfTwo(TypedDict):
    """What each of two traces makes of a model's log-likelihood."""

    log_likelihood: dict[str, float | None]
    next_token: list[NextToken]


def _cost(model: RoutedModel, one: Trace, other: Trace, where: Tensor) -> LikelihoodOfTwo:
    """What each of two traces makes of a model's log-likelihood, and of the token after each place where they part."""
    from c3po_adaptive.models.traced import behind, compared, recorded_in_both

    first, second = compared(model, one, other)
    counted = behind(recorded_in_both(one, other))
    change, after = second - first, where[:-1].any(-1)
    tokens: list[NextToken] = [
        {
            "position": t,
            "layers": [one.layers[row] for row in where[t].nonzero().flatten()],
            "difference": float(change[t]),
        }
        for t in after.nonzero().flatten().tolist()
    ]
    means: dict[str, float | None] = {"one": first[counted].mean().item(), "other": second[counted].mean().item()}
    means |= {
        "difference": change[counted].mean().item(),
        "where_parted": change[after].mean().item() if after.any() else None,
    }
    return {"log_likelihood": means, "next_token": tokens}


def _say_cost(cost: LikelihoodOfTwo) -> None:
    """For people: means, and the next tokens that change the most."""
    known = {name: value for name, value in cost["log_likelihood"].items() if value is not None}
    say("log_likelihood: " + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in known.items()))
    most = sorted(cost["next_token"], key=lambda token: -abs(token["difference"]))[:SHOWN]
    if most:
        say(f"next tokens that change most, of {len(cost['next_token'])} after places where the traces part:")
    for token in most:
        layers = token["layers"]
        where = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
        say(f"  {token['difference']:+.4f} after position {token['position']}, parted in {where}")


def _logits(model: RoutedModel, trace: Trace) -> Tensor:
    """``[T, L, E]`` of a trace's tokens, along the model's own routing."""
    import torch

    from c3po_adaptive import read_routing

    with torch.no_grad():
        return read_routing(model, {"input_ids": trace.tokens[None]}).logits[0]


def _shown(trace: Trace) -> dict[str, object]:
    """A trace in plain values."""
    there = trace.experts >= 0
    used = trace.experts[there if trace.weights is None else there & (trace.weights > 0)]
    return {
        "model": trace.name,
        "revision": trace.revision or None,
        "engine": trace.engine or None,
        "dtype": trace.dtype or None,
        "tokens": len(trace.tokens),
        "layers": list(trace.layers),
        "experts": trace.n_experts,
        "top_k": trace.experts.shape[-1],
        "weights": trace.weights is not None,
        "recorded": round(trace.recorded.float().mean().item(), 4),
        "experts_used": len(used.unique()),
    }


def _say(values: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        unit = " of all places (a token in a layer)" if name == "recorded" else ""
        say(f"{name}: {value}{unit}".replace("\n", "\\n"))  # a name is no further line
