"""Train experts apart, one a family of tasks, beside the frozen dense model (Branch-Train-MiX, arXiv 2403.07816).

A question of a family runs through the family's expert alone, with weight one, at every token; the loss is on the right
option's tokens. One loop trains all experts: each row of a batch gathers its own expert's weights. The layers below the
first expert never change, so that their output is computed once a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from c3po_adaptive.storage.files import atomic_file

KEPT_EVERY = 100  # steps
Loss = Callable[[Sequence[int]], Tensor]
INITIAL = 0.04  # of gate and up; down begins at zero, so that training begins at the dense model


@dataclass(frozen=True)
class Recipe:
    """All that decides the experts besides their data.

    Attributes:
        layers: that have experts.
        width: neurons of an expert.
        experts: how many.
        lr: highest learning rate of AdamW.
        batch: tokens of a step, padding included, at most.
        epochs: over all rows.
        warmup: steps.
        decay: weight decay.
        seed: of weights and order.
        half: matrix products in bfloat16 while training: a third of the time where the processor has them.
    """

    layers: tuple[int, ...] = tuple(range(16, 28))
    width: int = 16
    experts: int = 16
    lr: float = 2e-3
    batch: int = 1024
    epochs: int = 2
    warmup: int = 40
    decay: float = 0.01
    seed: int = 0
    half: bool = False


@dataclass(frozen=True)
class Row:
    """A text to learn from.

    Attributes:
        ids: of its tokens.
        start: place of the first token that the loss is on.
        expert: whose.
        kind: of task.
    """

    ids: tuple[int, ...]
    start: int
    expert: int
    kind: str


class Experts(nn.Module):
    """The experts of one layer, SwiGLU: ``gate`` and ``up`` ``[E, F, H]``, ``down`` ``[E, H, F]``."""

    def __init__(self, recipe: Recipe, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        shape = (recipe.experts, recipe.width, hidden)
        self.gate = nn.Parameter(INITIAL * torch.randn(shape, generator=generator))
        self.up = nn.Parameter(INITIAL * torch.randn(shape, generator=generator))
        self.down = nn.Parameter(torch.zeros(recipe.experts, hidden, recipe.width))

    def forward(self, x: Tensor, expert: Tensor) -> Tensor:
        """What each row's own expert adds, ``[B, T, H]``, to ``x [B, T, H]``; ``expert [B]``."""
        h = F.silu(x @ self.gate[expert].mT) * (x @ self.up[expert].mT)
        return h @ self.down[expert].mT


class Upper(nn.Module):
    """The dense model from the first layer with experts on, frozen, and the experts beside its feed-forward layers."""

    def __init__(self, dense: LlamaForCausalLM, recipe: Recipe, kind: type[Experts] = Experts) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(recipe.seed)
        self.dense, self.recipe = [dense], recipe  # in a list: it is no part that is trained
        hidden = dense.config.hidden_size
        self.experts = nn.ModuleDict({str(i): kind(recipe, hidden, generator) for i in recipe.layers})

    def forward(self, entry: Tensor, expert: Tensor) -> Tensor:
        """Final hidden states ``[B, T, H]`` of rows whose states enter the first of these layers as ``entry``."""
        dense = self.dense[0].model
        hidden, positions = entry, torch.arange(entry.shape[1])[None]
        rotary = dense.rotary_emb(hidden, positions)
        for index in range(self.recipe.layers[0], len(dense.layers)):
            layer: Any = dense.layers[index]
            attended = layer.self_attn(
                hidden_states=layer.input_layernorm(hidden),
                position_embeddings=rotary,
                attention_mask=None,
                position_ids=positions,
            )[0]
            hidden = hidden + attended
            x = layer.post_attention_layernorm(hidden)
            hidden = hidden + layer.mlp(x)
            if str(index) in self.experts:
                hidden = hidden + self.experts[str(index)](x, expert)
        final: Tensor = dense.norm(hidden)
        return final


def products(recipe: Recipe) -> torch.autocast:
    """Within it matrix products are as the recipe says."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.half)


@torch.no_grad()
def entries(dense: LlamaForCausalLM, rows: Sequence[Row], layer: int, tokens: int = 4096) -> list[Tensor]:
    """``[T, H]`` of each row: its hidden states as they enter a layer."""
    found: dict[int, Tensor] = {}
    model = dense.model
    for part in batches(rows, range(len(rows)), tokens):
        ids = padded([rows[i].ids for i in part])
        hidden, positions = model.embed_tokens(ids), torch.arange(ids.shape[1])[None]
        rotary = model.rotary_emb(hidden, positions)
        for below in model.layers[:layer]:
            hidden = below(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary)
        for i, states in zip(part, hidden, strict=True):
            found[i] = states[: len(rows[i].ids)].clone()
    return [found[i] for i in range(len(rows))]


def padded(ids: Sequence[Sequence[int]]) -> Tensor:
    """``[B, T]``, padded on the right, where a causal model's earlier tokens do not look."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], batch_first=True)


def batches(rows: Sequence[Row], order: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows of about one length together, at most so many tokens, padding included."""
    made: list[list[int]] = [[]]
    for i in sorted(order, key=lambda i: len(rows[i].ids)):
        if made[-1] and len(rows[i].ids) * (len(made[-1]) + 1) > tokens:
            made.append([])
        made[-1].append(i)
    return made


def epoch(rows: Sequence[Row], recipe: Recipe, generator: torch.Generator) -> list[list[int]]:
    """Batches of one pass over all rows: of lengths that are alike, and otherwise in random order."""
    shuffled = torch.randperm(len(rows), generator=generator).tolist()
    pools = [shuffled[i : i + 2048] for i in range(0, len(shuffled), 2048)]
    made = [batch for pool in pools for batch in batches(rows, pool, recipe.batch)]
    return [made[i] for i in torch.randperm(len(made), generator=generator).tolist()]


def answer_loss(upper: Upper, head: Tensor, rows: Sequence[Row], states: Sequence[Tensor]) -> Tensor:
    """``[B]`` nats a token of each row, over the tokens from its start on."""
    entry = nn.utils.rnn.pad_sequence(list(states), batch_first=True)
    final = upper(entry, torch.tensor([row.expert for row in rows]))
    places = [(b, t) for b, row in enumerate(rows) for t in range(row.start, len(row.ids))]
    owner, at = (torch.tensor(part) for part in zip(*places, strict=True))
    logits = final[owner, at - 1] @ head.T
    wanted = torch.tensor([rows[b].ids[t] for b, t in places])
    each = F.cross_entropy(logits, wanted, reduction="none")
    counts = torch.bincount(owner, minlength=len(rows))
    return torch.zeros(len(rows)).index_add(0, owner, each) / counts


def plan_of(rows: Sequence[Row], recipe: Recipe) -> list[list[int]]:
    """The batches of all steps, by the recipe's seed."""
    generator = torch.Generator().manual_seed(recipe.seed)
    return [batch for _ in range(recipe.epochs) for batch in epoch(rows, recipe, generator)]


def train(
    upper: nn.Module, loss: Loss, rows: Sequence[Row], recipe: Recipe, checkpoint: Path
) -> Iterator[dict[str, float]]:
    """Train what has gradients of ``upper`` in place; a record a step.

    Every hundredth step is kept in ``checkpoint``, and an interrupted training goes on from there.

    Args:
        upper: what is trained.
        loss: of the rows with these numbers, a mean.
        rows: to learn from.
        recipe: of learning rate and batches.
        checkpoint: file for the state of the training.
    """
    plan = plan_of(rows, recipe)
    optimizer = torch.optim.AdamW(upper.parameters(), lr=recipe.lr, weight_decay=recipe.decay, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * s / len(plan)))
    )
    first = 0
    if checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=True)
        upper.load_state_dict(kept["upper"])
        optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        first = kept["step"] + 1
    for step in range(first, len(plan)):
        with products(recipe):
            found = loss(plan[step])
        optimizer.zero_grad()
        found.backward()
        nn.utils.clip_grad_norm_(upper.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % KEPT_EVERY == KEPT_EVERY - 1 or step == len(plan) - 1:
            with atomic_file(checkpoint) as writing:
                parts = {"upper": upper, "optimizer": optimizer, "schedule": schedule}
                torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, writing)
        yield {"step": step, "steps": len(plan), "loss": found.item()}
