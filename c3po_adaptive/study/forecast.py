"""What a study takes, as far as it can be told before it runs: memory, FLOPs and hours of the plain answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import AutoTokenizer

from ..models.footprint import GIB, Footprint, as_dtype, available
from ..models.loading import model_footprint, source_of
from ..tasks.formats import as_format
from ..types import Question
from .config import OnQuestions
from .data import Data

UNLIMITED = 1 << 30  # tokens of a prompt: a run tells which are too long
SAMPLE = 64  # questions of each kind whose tokens are counted
SIDE, SECONDS = 1024, 0.3  # of the matrix products that a device's speed is measured by, and for how long


@dataclass(frozen=True)
class Forecast:
    """What plain answers take; re-mixing takes more.

    Attributes:
        weights: sizes of the model.
        free: bytes that are free where it goes.
        answers: FLOPs of all plain answers: every question once by every arm.
        references: FLOPs of running the references once.
        speed: FLOPs per second of plain matrix products, measured here.
    """

    weights: Footprint
    free: int
    answers: float
    references: float
    speed: float

    def lines(self) -> Iterator[str]:
        """For a person to read."""
        hours = (self.answers + self.references) / self.speed / 3600
        yield f"memory: {self.weights}; {self.free / GIB:.1f} GiB free"
        yield f"plain answers: {self.answers:.2e} FLOPs; references, once: {self.references:.2e} FLOPs"
        yield (
            f"at least {hours:.2f} hours, at the {self.speed / 1e9:.0f} GFLOP/s of plain matrix products here; arms "
            "that re-mix take 1.02 to 7 times a plain answer (studies/speed)"
        )


def forecast(config: OnQuestions, data: Data, answers: int) -> Forecast:
    """What a study takes; only configuration and tokenizer of the model are read.

    Args:
        config: of the study.
        data: its questions and references.
        answers: how often each question is answered.

    Raises:
        ModelError: there is no such model.
    """
    weights = model_footprint(config.model, dtype=config.dtype, quantize=config.quantize, revision=config.revision)
    tokenizer = AutoTokenizer.from_pretrained(source_of(config.model), revision=config.revision)
    format = as_format(config.format)

    def tokens(questions: Sequence[Question]) -> float:
        """Of all prompts with their options, told from some."""
        some = questions[:: max(1, len(questions) // SAMPLE)]
        prompts = [format.prompt(question, tokenizer, UNLIMITED) for question in some]
        return len(questions) * sum(len(p.ids) + sum(map(len, p.options)) for p in prompts) / max(1, len(some))

    device = "cpu" if config.device in (None, "auto") else config.device
    return Forecast(
        weights,
        available(None if device == "cpu" else device),
        answers * weights.flops_per_token * sum(tokens(part.questions) for part in data.values()),
        weights.flops_per_token * sum(tokens(part.references) for part in data.values()),
        _speed(device, torch.float32 if config.dtype == "auto" else as_dtype(config.dtype)),
    )


def _speed(device: str | None, dtype: torch.dtype) -> float:
    """FLOPs per second of square matrix products."""
    a = torch.ones(SIDE, SIDE, device=device, dtype=dtype)
    end, count = time.perf_counter() + SECONDS, 0
    began = time.perf_counter()
    while time.perf_counter() < end:
        (a @ a)[0, 0].item()
        count += 1
    return count * 2 * SIDE**3 / (time.perf_counter() - began)
