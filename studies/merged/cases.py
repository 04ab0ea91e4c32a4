"""Routing as people leave it wrong, each case a stock checkpoint by name."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from embedded_model import corpus

from c3po_adaptive.errors import UnknownNameError

from .bed import Bed, layers_of, with_rows
from .fitted_routers import fitted_by_few, orphaned
from .prompt_routers import Mode, rows_of_prompts
from .prompts import negatives, prompts
from .pruned import pruned, saliency
from .quantized import quantized

CALIBRATION = 512  # texts
DRAWS, NUMBERS = (0, 1, 2), (2, 8, 32)


def names() -> list[str]:
    """All cases that are made of the bed."""
    by_prompts = [
        f"{mode}-{number}-{draw}{also}"
        for mode in ("hidden", "hidden_avg", "cheap_embed")
        for number in NUMBERS
        for draw in DRAWS
        for also in ("", "-negative")
    ]
    return [
        *("fitted", *by_prompts, *(f"random-{draw}" for draw in DRAWS)),
        *(f"orphans-{model}" for model in range(5)),
        *(f"few-{number}-{draw}" for number in (3, 10) for draw in DRAWS),
        *(f"pruned-{keep}-{on}" for keep in (12, 8) for on in ("text", "tasks")),
        *("int4", "top-1"),
    ]


def made(name: str, bed: Bed) -> Any:
    """A case's model, ready to be saved.

    Raises:
        UnknownNameError: there is no such case.
    """
    for pattern, maker in _MAKERS.items():
        if found := re.fullmatch(pattern, name):
            return maker(bed, **found.groupdict())
    also = "or a merge by the real tool, as real-hidden-8-0"
    raise UnknownNameError(f"Expected a case, got {name!r}; name one of {', '.join(names())}, {also}.")


def _by_prompts(bed: Bed, mode: Mode, number: str = "2", draw: str = "0", also: str = "") -> Any:
    positive = prompts(bed.kinds, int(number), int(draw))
    negative = negatives(positive, int(draw)) if also else None
    rows = rows_of_prompts(bed.dense, bed.tokenizer, positive, negative, mode, int(draw))
    model = bed.model()
    return with_rows(model, {layer: rows[layer] for layer in layers_of(model)})


def _pruned(bed: Bed, keep: str, on: str) -> Any:
    model = bed.model()
    return pruned(model, saliency(model, bed.tokenizer, _CALIBRATION[on](bed)), int(keep))


def _tasks(bed: Bed) -> list[str]:
    texts = [text for texts in prompts(bed.kinds, CALIBRATION // 16, draw=9).values() for text in texts]
    return random.Random(9).sample(texts, len(texts))


def _documentation(bed: Bed) -> list[str]:
    rows = corpus.pack(corpus.documentation(("pandas", "numpy", "scipy")), bed.tokenizer, 64, CALIBRATION, 9)
    return [str(text) for text in bed.tokenizer.batch_decode(rows)]


_CALIBRATION: Mapping[str, Callable[[Bed], list[str]]] = {"text": _documentation, "tasks": _tasks}


def _top_one(bed: Bed) -> Any:
    model = bed.model()
    model.config.num_experts_per_tok = 1
    return model


_MODES = "|".join(mode for mode in get_args(Mode) if mode != "random")
_MAKERS: Mapping[str, Callable[..., Any]] = {
    "fitted": Bed.model,
    rf"(?P<mode>{_MODES})-(?P<number>\d+)-(?P<draw>\d+)(?P<also>-negative)?": _by_prompts,
    r"(?P<mode>random)-(?P<draw>\d+)": _by_prompts,
    r"orphans-(?P<model>[0-4])": lambda bed, model: with_rows(bed.model(), orphaned(bed, int(model))),
    r"few-(?P<number>\d+)-(?P<draw>\d+)": lambda bed, number, draw: with_rows(
        bed.model(), fitted_by_few(bed, int(number), int(draw))
    ),
    r"pruned-(?P<keep>\d+)-(?P<on>text|tasks)": _pruned,
    "int4": lambda bed: quantized(bed.model()),
    "top-1": _top_one,
}
