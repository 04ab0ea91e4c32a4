"""How many FLOPs a second a model's layers are run at: measured on two of them, or told from a data sheet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ..losses import right_answer_loss
from ..models.footprint import Footprint
from ..models.routed import RoutedModel
from ..routing.mixing import CORE, core
from ..routing.scores import TailScores
from ..routing.states import State
from ..types import Prompt
from .hardware import Sheet

LAST, NEIGHBOURS = 5, 3  # layers and neighbours of the paper's setting
TIMES, LONGEST = 3, 10.0  # repetitions, and seconds after which no other is begun


@dataclass(frozen=True)
class Pace:
    """FLOPs per second.

    Attributes:
        prompts: of whole prompts, a batch together.
        tails: of steps of the descent: few tokens and many weights, forward and backward.
        told: where both are from.
    """

    prompts: float
    tails: float
    told: str


def measured_pace(model: RoutedModel, prompts: Sequence[Prompt], told: str) -> Pace:
    """Of a short model on its device, with a batch of prompts of these lengths.

    Args:
        model: of the real width.
        prompts: one batch; their tokens are drawn anew, so that they go to different experts.
        told: of the device.
    """
    drawn = _drawn(prompts, model.model.config.get_text_config().vocab_size)
    states: list[State] = []

    def run_prompts() -> float:
        states[:] = model.prefill(drawn, keep=False)
        return sum(state.work.flops for state in states)

    speed = _flops_per_second(run_prompts, model.model.device)
    return Pace(speed, _flops_per_second(_step(model, states), model.model.device), told)


def _drawn(prompts: Sequence[Prompt], words: int) -> list[Prompt]:
    generator = torch.Generator().manual_seed(0)
    return [replace(p, ids=tuple(torch.randint(words, (len(p.ids),), generator=generator).tolist())) for p in prompts]


def _step(model: RoutedModel, states: Sequence[State]) -> Callable[[], float]:
    """A step of the descent: forward and backward pass of each sample's neighbours, for which they themselves stand."""
    near = [state for state in states for _ in range(NEIGHBOURS)]
    own, router = (torch.stack([getattr(s, name) for s in states]) for name in ("own", "router"))
    active = torch.ones(own.shape[:2], dtype=torch.bool)
    support = core(router, min(CORE, model.n_experts)) | (own > 0)
    sample, answers = torch.arange(len(states)).repeat_interleave(NEIGHBOURS), torch.zeros(len(near), dtype=torch.long)
    head = model.head_for("tangent")
    tails = TailScores(
        *(model.model, model.sites, model.flops, near, sample, own, active, support),
        head=head,
        relative=model.letters_alone,
    )

    def step() -> float:
        before = _spent(tails)
        weights = own.clone().requires_grad_()
        torch.autograd.grad(right_answer_loss(tails(weights), answers, "choices").sum(), weights)
        return _spent(tails) - before

    return step


def _spent(tails: TailScores) -> float:
    return sum(entry.flops for entry in tails.spent)


def _flops_per_second(run: Callable[[], float], device: torch.device) -> float:
    """The best of some repetitions, after one that does not count."""
    began, found = time.perf_counter(), []
    for _ in range(1 + TIMES):
        start = time.perf_counter()
        flops = run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(flops / (time.perf_counter() - start))
        if time.perf_counter() - began > LONGEST:
            break
    return max(found[1:] or found)


def sheet_pace(
    sheet: Sheet, share: float, dtype: torch.dtype, weights: Footprint, model: RoutedModel, states: Sequence[State]
) -> Pace:
    """Of a data sheet: the peak, or as fast as memory gives the weights, whichever is slower, times a share.

    Args:
        sheet: of the device.
        share: of both that is reached.
        dtype: of the weights.
        weights: the model's.
        model: a narrow one of its shape, which counts by its sizes.
        states: of one batch.
    """
    first = max(0, len(model.sites) - LAST)
    rows = sum(state.packed.rows for state in states)
    mixed = {
        i: min(CORE, model.n_experts) + site.top_k * (rows / len(states) - 1) for i, site in enumerate(model.sites)
    }
    steps = [model.flops.tail(state.packed, first, mixed, True, len(state.packed.scored.unique())) for state in states]
    read = weights.bytes * (len(model.sites) - first) / len(model.flops.linear)

    def speed(flops: float, bytes_read: float) -> float:
        return flops * share / max(flops / sheet.peak(dtype), bytes_read / sheet.bandwidth)

    told = f"{sheet.name}: {share:g} of its data sheet's {sheet.peak(dtype) / 1e12:.4g} TFLOP/s and "
    return Pace(
        speed(sum(state.work.flops for state in states), 2 * weights.bytes),  # what comes before the tails, and tails
        speed(NEIGHBOURS * sum(step.flops for step in steps), 2 * read),
        f"{told}{sheet.bandwidth / 1e12:.4g} TB/s",
    )
