"""Win back what carving loses: train routers, norms and small adapters to match the dense model.

The loss is KL(dense || carved) of the next-token distributions on the recovery corpus, plus a small load-balance term.
The layers below the first carved one never change, nor does the dense model: both run once per row and are kept.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from .carve import Carving


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the embedded model besides its data."""

    layers: tuple[int, ...] = tuple(range(16, 28))
    shared: int = 1024
    experts: int = 64
    top_k: int = 8
    routed_share: float = 0.45
    rank: int = 40
    attention_rank: int = 8
    tokens: int = 1_300_000
    rows_per_step: int = 16
    lr: float = 1e-3
    warmup: int = 50
    balance: float = 1e-2
    vocabulary: int = 6144
    extra_vocabulary: int = 2048
    seed: int = 0


class Adapted(nn.Module):
    """A frozen linear map plus a low-rank trained one, ``W + B A``."""

    weight: Tensor

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.a = nn.Parameter(torch.randn(rank, weight.shape[1]) / math.sqrt(weight.shape[1]))
        self.b = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight) + F.linear(F.linear(x, self.a), self.b)

    def merged(self) -> Tensor:
        return self.weight.float() + self.b @ self.a


class CarvedMLP(nn.Module):
    """A carved feed-forward layer in dense form: all neurons computed, routed ones masked by their expert's weight.

    Equal to the sparse form, and on a CPU faster to train than gathering 64 experts of a dozen neurons each.
    """

    def __init__(self, dense: Any, carving: Carving, recipe: Recipe) -> None:
        super().__init__()
        order = carving.order
        self.gate = Adapted(dense.gate_proj.weight.data[order].clone(), recipe.rank)
        self.up = Adapted(dense.up_proj.weight.data[order].clone(), recipe.rank)
        self.down = Adapted(dense.down_proj.weight.data[:, order].clone(), recipe.rank)
        self.router = nn.Parameter(carving.router.float().clone() * 0.25)  # flat: the equal weights of the dense layer
        self.recipe = recipe
        self.balance = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        r = self.recipe
        probabilities = F.linear(x.float(), self.router).softmax(-1)
        top, index = probabilities.topk(r.top_k, dim=-1)
        weights = torch.zeros_like(probabilities).scatter(-1, index, top / top.sum(-1, keepdim=True))
        load = (weights.detach() > 0).float().flatten(0, -2).mean(0)
        self.balance = r.experts / r.top_k * (load * probabilities.flatten(0, -2).mean(0)).sum()
        h = F.silu(self.gate(x)) * self.up(x)
        shared, routed = h[..., : r.shared], h[..., r.shared :]
        scale = (weights * r.top_k).to(h.dtype).unsqueeze(-1)
        routed = (routed.unflatten(-1, (r.experts, -1)) * scale).flatten(-2)
        output: Tensor = self.down(torch.cat([shared, routed], -1))
        return output


class Student(nn.Module):
    """The upper layers of the dense model, carved and adapted; frozen but for routers, norms and adapters."""

    def __init__(self, dense: LlamaForCausalLM, carvings: dict[int, Carving], recipe: Recipe) -> None:
        super().__init__()
        self.rotary = dense.model.rotary_emb
        self.norm = dense.model.norm
        self.layers = nn.ModuleList()
        for index in range(recipe.layers[0], len(dense.model.layers)):
            layer = copy.deepcopy(dense.model.layers[index]).requires_grad_(False)
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                weight = getattr(layer.self_attn, name).weight.data
                setattr(layer.self_attn, name, Adapted(weight, recipe.attention_rank))
            if index in carvings:
                layer.mlp = CarvedMLP(layer.mlp, carvings[index], recipe)
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                norm.weight = nn.Parameter(norm.weight.data.float())
            self.layers.append(layer)

    def forward(self, hidden: Tensor) -> Tensor:
        """Final hidden states ``[B, T, H]`` from the hidden states that enter the first carved layer."""
        positions = torch.arange(hidden.shape[1])[None]
        rotary = self.rotary(hidden, positions)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary)
        final: Tensor = self.norm(hidden)
        return final

    def balance(self) -> Tensor:
        return torch.stack([m.balance for m in self.modules() if isinstance(m, CarvedMLP)]).mean()


@dataclass
class DenseCache:
    """What the dense model says of each row, computed at the first visit: entry and final states ``[N, T, H]``."""

    dense: LlamaForCausalLM
    rows: Tensor
    first: int
    folder: Path
    seen: Tensor = field(init=False)

    def __post_init__(self) -> None:
        size = self.rows.numel() * self.dense.config.hidden_size
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seen = torch.from_file(str(self.folder / "seen.bin"), shared=True, size=len(self.rows), dtype=torch.bool)
        shape = (*self.rows.shape, -1)
        self.entry, self.final = (
            torch.from_file(str(self.folder / n), shared=True, size=size, dtype=torch.bfloat16).view(shape)
            for n in ("entry.bin", "final.bin")
        )

    @torch.no_grad()
    def __call__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        new = index[~self.seen[index]]
        if len(new):
            taken: list[Tensor] = []
            layer = self.dense.model.layers[self.first]
            hook = layer.register_forward_pre_hook(lambda _, args: taken.append(args[0]))
            out = self.dense.model(self.rows[new], use_cache=False).last_hidden_state
            hook.remove()
            self.entry[new], self.final[new], self.seen[new] = taken[0].bfloat16(), out.bfloat16(), True
        return self.entry[index], self.final[index]


def _vocabulary(rows: Tensor, size: int, recipe: Recipe) -> Iterator[Tensor]:
    """Token subsets for the loss: the corpus's most frequent tokens and, each step anew, some of the others."""
    generator = torch.Generator().manual_seed(recipe.seed)
    ranked = torch.bincount(rows.flatten(), minlength=size).argsort(descending=True)
    often, rest = ranked[: recipe.vocabulary], ranked[recipe.vocabulary :]
    while True:
        yield torch.cat([often, rest[torch.randperm(len(rest), generator=generator)[: recipe.extra_vocabulary]]])


def train(
    student: Student, dense: LlamaForCausalLM, rows: Tensor, recipe: Recipe, folder: Path
) -> Iterator[dict[str, float]]:
    """Train in place; yield a log record every ten steps."""
    cache = DenseCache(dense, rows, recipe.layers[0], folder)
    steps = recipe.tokens // (recipe.rows_per_step * rows.shape[1])
    trainable = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=recipe.lr, weight_decay=0.0, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * s / steps))
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    order = torch.empty(0, dtype=torch.long)
    head, vocabulary = dense.lm_head.weight.data, _vocabulary(rows, dense.config.vocab_size, recipe)
    losses: list[float] = []
    for step in range(steps):
        if len(order) < recipe.rows_per_step:
            order = torch.cat([order, torch.randperm(len(rows), generator=generator)])
        index, order = order[: recipe.rows_per_step], order[recipe.rows_per_step :]
        entry, final = cache(index)
        words = head[next(vocabulary)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            target = F.linear(final, words).float().log_softmax(-1)
            guess = F.linear(student(entry), words).float().log_softmax(-1)
        kl = F.kl_div(guess.flatten(0, 1), target.flatten(0, 1), log_target=True, reduction="batchmean")
        balance = student.balance()
        (kl + recipe.balance * balance).backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(kl.item())
        if (step + 1) % 10 == 0:
            tokens = (step + 1) * recipe.rows_per_step * rows.shape[1]
            yield {"step": step + 1, "tokens": tokens, "kl": sum(losses) / len(losses), "balance": balance.item()}
            losses = []


def export(student: Student, carvings: dict[int, Carving], recipe: Recipe) -> dict[str, Tensor]:
    """The trained tensors in half precision, named as ``assemble`` reads them."""
    tensors: dict[str, Tensor] = {}
    layers: Any = student.layers
    for index, layer in enumerate(layers, start=recipe.layers[0]):
        adapted = {name: getattr(layer.self_attn, name) for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
        if index in carvings:
            adapted |= {name: getattr(layer.mlp, name) for name in ("gate", "up", "down")}
            tensors[f"layers.{index}.order"] = carvings[index].order.to(torch.int16)
            tensors[f"layers.{index}.router"] = layer.mlp.router
        for name, module in adapted.items():
            tensors |= {f"layers.{index}.{name}.a": module.a, f"layers.{index}.{name}.b": module.b}
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"layers.{index}.{name}"] = getattr(layer, name).weight
    return {
        k: v.detach().to(torch.int16 if k.endswith("order") else torch.float16).contiguous() for k, v in tensors.items()
    }
