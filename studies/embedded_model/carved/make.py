"""Make the embedded model anew, from ``studies/``: ``python -m embedded_model.carved.make recover`` and ``… measure``.

Not needed to use it. Recovery takes hours on two cores; it logs to ``log.jsonl`` and writes the tensors of the package.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from c3po_adaptive.models.embedded.assemble import read_tensors
from c3po_adaptive.models.embedded.builder import MODELS, fetch, load_dense
from c3po_adaptive.models.embedded.carved import assemble
from c3po_adaptive.models.names import CARVED
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.folders import cache_folder
from c3po_adaptive.storage.identity import digest_of_file

from .. import corpus
from .carve import Carving, carve
from .recover import Recipe, Student, export, train

app = typer.Typer(no_args_is_help=True)
HERE = Path(__file__).parent
TENSORS = MODELS[CARVED].tensors
LENGTH = 128
CALIBRATION_ROWS = 64
DOCUMENTATION, GENERATED = 4028, 1472  # rows of the corpus
SWEEP_ROWS = 128
SHORT = {
    "layers": tuple(range(14, 28)),
    "shared": 768,
    "routed_share": 0.3,
    "rank": 32,
    "tokens": 100_000,
    "warmup": 10,
}
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"shared": 512},
    {"layers": tuple(range(18, 28))},
    {"shared": 1024},  # not more: experts need a multiple of 8 neurons (grouped matrix products want 16 bytes per row)
    {"shared": 1024, "routed_share": 0.45},
)


def dense_model() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """SmolLM2-135M-Instruct in float32, frozen."""
    with tempfile.TemporaryDirectory() as scratch:
        read, tokenizer = load_dense(fetch(cache_folder()), Path(scratch))
    config = read.config
    del config.quantization_config  # what was read from GGUF counts as quantized, and would refuse another dtype
    dense = LlamaForCausalLM(config)
    dense.load_state_dict(read.state_dict())
    return dense.eval().requires_grad_(False), tokenizer


def training_rows(dense: LlamaForCausalLM, tokenizer: Any, documentation: int, generated: int, folder: Path) -> Tensor:
    """``[N, T]``: documentation first, then text of the dense model; kept in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rows-{documentation}-{generated}.pt"
    if not path.is_file():
        texts = corpus.documentation() + corpus.descriptions()
        real = corpus.pack(texts, tokenizer, LENGTH, documentation, seed=0)
        half = copy.deepcopy(dense).bfloat16()
        sampled = list(corpus.generated(half, tokenizer, generated, LENGTH, seed=0, batch=128))
        torch.save(torch.cat([real, *sampled]), path)
    rows: Tensor = torch.load(path)
    return rows


@torch.no_grad()
def calibrate(dense: LlamaForCausalLM, rows: Tensor, layers: tuple[int, ...]) -> dict[int, tuple[Tensor, Tensor]]:
    """Inputs ``[N, H]`` and activations ``[N, F]`` of each feed-forward layer on some rows."""
    taken: dict[int, tuple[list[Tensor], list[Tensor]]] = {i: ([], []) for i in layers}
    hooks = []
    for i in layers:
        mlp = dense.model.layers[i].mlp
        hooks.append(mlp.register_forward_pre_hook(lambda _, args, i=i: taken[i][0].append(args[0].flatten(0, 1))))
        down = mlp.down_proj
        hooks.append(down.register_forward_pre_hook(lambda _, args, i=i: taken[i][1].append(args[0].flatten(0, 1))))
    for part in rows.split(16):
        dense.model(part, use_cache=False)
    for hook in hooks:
        hook.remove()
    return {i: (torch.cat(x).float(), torch.cat(h).float()) for i, (x, h) in taken.items()}


def carvings(dense: LlamaForCausalLM, rows: Tensor, recipe: Recipe) -> dict[int, Carving]:
    """Every layer of the recipe, carved on the first rows of either kind."""
    seen = calibrate(dense, torch.cat([rows[:CALIBRATION_ROWS], rows[-CALIBRATION_ROWS:]]), recipe.layers)
    return {
        i: carve(
            *seen[i],
            dense.model.layers[i].mlp.down_proj.weight.float(),
            shared=recipe.shared,
            experts=recipe.experts,
            share=recipe.routed_share,
            seed=recipe.seed,
        )
        for i in recipe.layers
    }


@app.command()
def recover(
    out: Annotated[Path, typer.Option(help="Scratch folder: corpus, caches, log; several GB.")],
    recipe: Annotated[str, typer.Option(help="JSON over the recipe's defaults.")] = "{}",
    documentation: Annotated[int, typer.Option(help="Rows of 128 tokens of documentation.")] = DOCUMENTATION,
    generated: Annotated[int, typer.Option(help="Rows that the dense model generates.")] = GENERATED,
    tensors: Annotated[Path, typer.Option(help="Where the trained tensors go.")] = TENSORS,
) -> None:
    """Carve, train, and write the tensors."""
    wanted = _recipe(json.loads(recipe))
    dense, tokenizer = dense_model()
    rows = training_rows(dense, tokenizer, documentation, generated, out)
    log = out / f"log-{wanted.tokens}.jsonl"
    student, carved = _trained(dense, rows, wanted, out, log)
    write_text(HERE / "log.jsonl", log.read_text())
    save_file(export(student, carved, wanted), tensors, metadata={"recipe": json.dumps(asdict(wanted))})
    typer.echo(f"{tensors}: SHA-256 {digest_of_file(tensors)}; put it into builder.py")


@app.command()
def sweep(
    out: Annotated[Path, typer.Option(help="Scratch folder, shared with ``recover``.")],
    only: Annotated[list[int] | None, typer.Option(help="Numbers of the variants to train; default all.")] = None,
    documentation: int = DOCUMENTATION,
    generated: int = GENERATED,
) -> None:
    """Train each variant of the recipe shortly and append its gap and leverage to ``sweep.jsonl``."""
    from .measure import likelihood, routing

    dense, tokenizer = dense_model()
    rows = training_rows(dense, tokenizer, documentation, generated, out)
    test = corpus.pack(corpus.independent(), tokenizer, LENGTH, SWEEP_ROWS, seed=0)
    for number in only or range(len(VARIANTS)):
        wanted = _recipe(SHORT | VARIANTS[number])
        student, carved = _trained(dense, rows, wanted, out, out / "log-sweep.jsonl")
        model = assemble(dense, export(student, carved, wanted), asdict(wanted))
        layers = routing(RoutedModel(model, tokenizer), test[:16])
        found = {"recipe": asdict(wanted), "nll": likelihood(dense, model, test), "layers": layers}
        with (HERE / "sweep.jsonl").open("a") as file:
            file.write(json.dumps(found) + "\n")


def _trained(
    dense: LlamaForCausalLM, rows: Tensor, wanted: Recipe, out: Path, log: Path
) -> tuple[Student, dict[int, Carving]]:
    carved = carvings(dense, rows, wanted)
    torch.manual_seed(wanted.seed)
    half = copy.deepcopy(dense).bfloat16()
    student = Student(half, carved, wanted)
    seen = hashlib.sha256(rows.numpy().tobytes()).hexdigest()[:8]
    with log.open("w") as file:
        for record in train(student, half, rows, wanted, out / f"dense-{wanted.layers[0]}-{seen}"):
            file.write(json.dumps(record) + "\n")
            file.flush()
    return student, carved


@app.command()
def measure(
    questions: Annotated[list[Path] | None, typer.Option(help="JSONL question sets to compare accuracy on.")] = None,
    limit: Annotated[int, typer.Option(help="Questions of each set.")] = 400,
    documentation: int = DOCUMENTATION,
    generated: int = GENERATED,
) -> None:
    """Measure what carving lost and what a pathway can steer; write ``figures.json`` and ``MODEL_CARD.md``."""
    from .card import card
    from .measure import figures

    dense, tokenizer = dense_model()
    kept, found = HERE / "figures.json", {"tensors": digest_of_file(TENSORS)}
    if kept.is_file() and (known := json.loads(kept.read_text())).get("tensors") == found["tensors"]:
        found = known  # interrupted; parts that are there are not measured again
    for more in figures(dense, tokenizer, questions or [], limit, found):
        found = more
        write_text(kept, json.dumps(found, indent=1) + "\n")
    rows = {"documentation": documentation, "generated": generated}
    logs = (_jsonl(HERE / name) for name in ("sweep.jsonl", "log.jsonl"))
    text = card(found, read_tensors(TENSORS)[1], rows, *logs)
    write_text(HERE / "MODEL_CARD.md", text)


def _jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _recipe(changes: dict[str, Any]) -> Recipe:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    return Recipe(**values)


if __name__ == "__main__":
    app()
