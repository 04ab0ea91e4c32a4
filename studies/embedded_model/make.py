"""Make the embedded model and its sisters, from ``studies/``: ``python -m embedded_model.make bed --kinds FOLDER``.

On two cores it takes about an hour; an interrupted run goes on where it was.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from c3po_bed import EXPERTS
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.errors import ModelError
from c3po_adaptive.models.embedded.assemble import assemble, read_tensors
from c3po_adaptive.models.embedded.builder import fetch, load_dense
from c3po_adaptive.models.fingerprint import fingerprint
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.progress import bar
from c3po_adaptive.storage.files import atomic_file, write_text
from c3po_adaptive.storage.folders import cache_folder
from c3po_adaptive.storage.identity import digest, digest_of_file

from . import together
from .apart import Recipe, Row, Upper, answer_loss, entries, products, train
from .router import Routing, moments, routers
from .rows import TEXT_ROWS, of_families, of_text
from .tensors import export, recipe_of, write

app = typer.Typer(no_args_is_help=True)
HERE = Path(__file__).parent
PACKAGES = ("torch", "transformers", "scipy", "sklearn", "matplotlib", "numpy", "captum", "datasets", "pandas")
SHARD = 1000  # rows whose states are kept in one file
FITTED = 3000  # rows that the router is fitted to

Kinds = Annotated[Path, typer.Option(help="Folder with KIND.train.jsonl of every kind in families.py.")]
Out = Annotated[Path, typer.Option(help="Scratch folder: states and checkpoints, some 2 GB.")]
Seed = Annotated[int, typer.Option(help="Of rows, order and weights.")]
Donor = Annotated[str | None, typer.Option("--dense", help="Another Llama, by Hub id or folder.")]


def donor(name: str | None) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """The dense model in float32, frozen: SmolLM2-135M-Instruct, or another Llama.

    Raises:
        ModelError: another architecture, or one that experts cannot stand beside in a ``qwen2_moe``.
    """
    if name is None:
        with tempfile.TemporaryDirectory() as scratch:
            read, tokenizer = load_dense(fetch(cache_folder()), Path(scratch))
    else:
        try:
            read = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise ModelError(f"Expected a Llama at {name}, got: {error}; name another --dense.") from error
    if not isinstance(read, LlamaForCausalLM):
        raise ModelError(f"Expected a Llama to put experts into, got {type(read).__name__}; name another --dense.")
    config = read.config
    if config.attention_bias or config.mlp_bias or config.head_dim != config.hidden_size // config.num_attention_heads:
        raise ModelError(
            "Expected a Llama without biases, whose heads share the hidden size, as qwen2_moe has them; got "
            f"attention_bias={config.attention_bias}, mlp_bias={config.mlp_bias}, head_dim={config.head_dim}; name "
            "another --dense."
        )
    dense = LlamaForCausalLM(config)
    dense.load_state_dict(read.state_dict())
    return dense.eval().requires_grad_(False), tokenizer


def layers_of(dense: LlamaForCausalLM) -> tuple[int, ...]:
    """Those that get experts: of thirty, 16 to 27."""
    n = len(dense.model.layers)
    return tuple(range(round(n * 16 / 30), round(n * 28 / 30)))


def _donor_hash(dense: LlamaForCausalLM) -> str:
    """Told by a few of its numbers: another donor's states are not met in the same folder."""
    return digest([dense.config.to_json_string(), dense.model.layers[0].mlp.up_proj.weight[:4].tolist()])


def states_of(dense: LlamaForCausalLM, rows: Sequence[Row], recipe: Recipe, out: Path) -> list[Tensor]:
    """Each row's states as they enter the first layer with experts, kept in ``out`` shard by shard."""
    out.mkdir(parents=True, exist_ok=True)
    layer, found = recipe.layers[0], list[Tensor]()
    for first in bar(range(0, len(rows), SHARD), "states"):
        part = rows[first : first + SHARD]
        of = digest([_donor_hash(dense), layer, recipe.half, [row.ids for row in part]])[:16]
        path = out / f"states-{layer}-{of}.pt"
        if not path.is_file():
            with atomic_file(path) as writing, products(recipe):
                torch.save(entries(dense, part, layer), writing)
        found += torch.load(path, weights_only=True)
    return found


def logged(records: Iterator[dict[str, float]], path: Path) -> None:
    """Write the mean loss of every twenty steps, as JSON lines; where a training goes on, from there on."""
    losses: list[float] = []
    for record in records:
        losses.append(record["loss"])
        step = round(record["step"]) + 1
        if step % 20 == 0:
            before = [line for line in _lines(path) if json.loads(line)["step"] < step]
            now = json.dumps({"step": step, "steps": record["steps"], "loss": round(sum(losses) / len(losses), 4)})
            write_text(path, "".join(f"{line}\n" for line in [*before, now]))
            typer.echo(now)
            losses.clear()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


@app.command()
@clear_errors()
def bed(
    kinds: Kinds,
    out: Out,
    seed: Seed = 0,
    dense: Donor = None,
    jointly: Annotated[bool, typer.Option("--together", help="Experts and router together: the sister.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Train in bfloat16: faster where the processor has it.")] = False,
    tensors: Annotated[Path | None, typer.Option(help="Where the trained tensors go; default: OUT.")] = None,
) -> None:
    """Train experts, fit the router, write the tensors and the whole model: from questions to a checkpoint."""
    model, tokenizer = donor(dense)
    recipe = Recipe(layers=layers_of(model), experts=len(EXPERTS), seed=seed, half=half)
    rows = [*of_families(kinds, tokenizer, seed), *of_text(tokenizer, PACKAGES, seed)]
    states = states_of(model, rows, recipe, out)
    head = model.lm_head.weight.data
    name = f"{'together' if jointly else 'apart'}-{seed}"
    checkpoint = out / f"{name}-{digest([_donor_hash(model), asdict(recipe), [row.ids for row in rows]])[:12]}.pt"
    upper, loss = _learner(model, recipe, head, rows, states, jointly)
    logged(train(upper, loss, rows, recipe, checkpoint), out / f"{name}.jsonl")
    how = Routing()
    if isinstance(upper, together.Together):
        found = upper.routers()
    else:
        torch.manual_seed(seed)
        fitted = torch.randperm(len(rows))[:FITTED].tolist()
        found = routers(moments(upper, [rows[i] for i in fitted], [states[i] for i in fitted]), how)
    path = tensors or out / f"{name}.safetensors"
    made = export(upper, found)
    write(path, made, recipe, how)
    whole_model = assemble(model, made, recipe_of(recipe, how))
    whole_model.save_pretrained(out / name)
    tokenizer.save_pretrained(out / name)
    typer.echo(f"{path}: SHA-256 {digest_of_file(path)}")


def _learner(
    model: LlamaForCausalLM,
    recipe: Recipe,
    head: Tensor,
    rows: Sequence[Row],
    states: Sequence[Tensor],
    jointly: bool,
) -> tuple[Upper, Callable[[Sequence[int]], Tensor]]:
    """What is trained, and its loss on rows by their numbers."""

    def of(loss: Callable[..., Tensor], upper: Upper, batch: Sequence[int]) -> Tensor:
        return loss(upper, head, [rows[i] for i in batch], [states[i] for i in batch]).mean()

    if jointly:
        sister = together.Together(model, recipe)
        return sister, partial(of, together.loss_of, sister)
    apart = Upper(model, recipe)
    return apart, partial(of, answer_loss, apart)


@app.command()
@clear_errors()
def sweep(kinds: Kinds, out: Out, dense: Donor = None) -> None:
    """Try other recipes, trained shortly: ``sweep.jsonl`` here. What is done already is not tried again."""
    from .sweep import sweep as tried

    model, tokenizer = donor(dense)
    rows = [*of_families(kinds, tokenizer, 0), *of_text(tokenizer, PACKAGES, 0)]
    path = HERE / "sweep.jsonl"
    of = digest([_donor_hash(model), [row.ids for row in rows]])[:12]
    known = [one for one in map(json.loads, _lines(path)) if one["of"] == of]
    scratch = out / f"sweep-{of}"
    scratch.mkdir(parents=True, exist_ok=True)
    for found in tried(model, tokenizer, rows, kinds, [(one["name"], one["routing"]) for one in known], scratch):
        record = {"of": of} | found
        typer.echo(json.dumps(record))
        known.append(record)
        write_text(path, "".join(f"{json.dumps(one)}\n" for one in known))


@app.command()
@clear_errors()
def measure(
    kinds: Kinds,
    model: Annotated[Path, typer.Option(help="A folder that bed wrote, and the tensors and log beside it.")],
    limit: Annotated[int, typer.Option(help="Questions of each kind, at most.")] = 60,
    dense: Donor = None,
) -> None:
    """Measure what routing is worth, and write the model's card beside its log."""
    from .card import card
    from .measure import figures

    moe, donated = load_moe_model(str(model), dtype="float32"), donor(dense)[0]
    kept, found = model.with_suffix(".json"), {"model": fingerprint(moe)}
    if kept.is_file() and (known := json.loads(kept.read_text())).get("model") == found["model"]:
        found = known  # interrupted; parts that are there are not measured again
    for more in figures(kinds, moe, donated, found, limit):
        found = more
        write_text(kept, json.dumps(found, indent=1) + "\n")
    recipe = read_tensors(model.with_suffix(".safetensors"))[1]
    log = [json.loads(line) for line in _lines(model.with_suffix(".jsonl"))]
    rows = len(of_families(kinds, moe.tokenizer, recipe["seed"])) + TEXT_ROWS
    tried = [json.loads(line) for line in _lines(HERE / "sweep.jsonl")]
    write_text(model.with_suffix(".md"), card(found, recipe, rows, log, others_of(kept), tried))


def others_of(kept: Path) -> dict[str, dict[str, Any]]:
    """Figures beside a model's own that are whole, by what they are of."""
    names = {"apart": "another seed", "together": "trained together"}
    found = {}
    for path in sorted(kept.parent.glob("*-[0-9].json")):
        figures = json.loads(path.read_text())
        if path != kept and "questions" in figures:
            kind, seed = path.stem.rsplit("-", 1)
            found[f"{names[kind]} ({seed})"] = figures
    return found


if __name__ == "__main__":
    app()
