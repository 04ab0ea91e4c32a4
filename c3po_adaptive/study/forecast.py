"""What a study takes, as far as it can be told before it runs: memory, FLOPs and hours of the plain answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..models.footprint import GIB, Footprint, as_dtype, available
from ..models.loading import load_tokenizer, model_footprint
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
        free: bytes that are free where it goes; None if that is not here.
        answers: FLOPs of all plain answers: every question once by every arm.
        references: FLOPs of running the references once.
        speed: FLOPs per second of plain matrix products, measured here; likewise.
    """

    weights: Footprint
    free: int | None
    answers: float
    references: float
    speed: float | None

    @property
    def hours(self) -> float | None:
        """At least, at the speed of plain matrix products; None if that was not measured."""
        return None if self.speed is None else (self.answers + self.references) / self.speed / 3600

    def values(self) -> dict[str, Any]:
        """Plain ones, for programs."""
        flops = {"answers_flops": self.answers, "references_flops": self.references, "flops_per_second": self.speed}
        return {**asdict(self.weights), "free": self.free, **flops, "hours": self.hours}

    def lines(self) -> Iterator[str]:
        """For a person to read."""
        free = "" if self.free is None else f"; {self.free / GIB:.1f} GiB free"
        yield f"memory: {self.weights}{free}"
        yield f"plain answers: {self.answers:.2e} FLOPs; references, once: {self.references:.2e} FLOPs"
        if self.speed is None or self.hours is None:
            yield "hours: not foreseen, the device is not here"
            return
        yield (
            f"at least {self.hours:.2f} hours, at the {self.speed / 1e9:.0f} GFLOP/s of plain matrix products here; "
            "re-mixing takes more (studies/speed)"
        )


def forecast(config: OnQuestions, data: Data, answers: int) -> Forecast:
    """What a study takes; only configuration and tokenizer of the model are read.

    Args:
        config: of the study.
        data: its questions and references.
        answers: how often each question is answered.

    Raises:
        ModelError: there is no such model, or its tokenizer cannot be read.
    """
    weights = model_footprint(config.model, dtype=config.dtype, quantize=config.quantize, revision=config.revision)
    tokenizer = load_tokenizer(config.model, config.revision)

    def tokens(questions: Sequence[Question], dataset: str) -> float:
        """Of all prompts with their options, told from some."""
        some = questions[:: max(1, len(questions) // SAMPLE)]
        prompts = [config.format_of(dataset).prompt(question, tokenizer, UNLIMITED) for question in some]
        return len(questions) * sum(len(p.ids) + sum(map(len, p.options)) for p in prompts) / max(1, len(some))

    device = "cpu" if config.device in (None, "auto") else str(config.device)
    here = _is_here(device)
    return Forecast(
        weights,
        available(None if device == "cpu" else device) if here else None,
        answers * weights.flops_per_token * sum(tokens(part.questions, name) for name, part in data.items()),
        weights.flops_per_token * sum(tokens(part.references, name) for name, part in data.items()),
        _speed(device, torch.float32 if config.dtype == "auto" else as_dtype(config.dtype)) if here else None,
    )


def _is_here(device: str) -> bool:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True


def _speed(device: str, dtype: torch.dtype) -> float:
    """FLOPs per second of square matrix products."""
    a = torch.ones(SIDE, SIDE, device=device, dtype=dtype)
    began, count = time.perf_counter(), 0
    while time.perf_counter() < began + SECONDS:
        (a @ a)[0, 0].item()  # waits for the device
        count += 1
    return count * 2 * SIDE**3 / (time.perf_counter() - began)
