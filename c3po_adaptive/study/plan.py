"""What a study takes, estimated before it runs: from the model's configuration and tokenizer; where its weights are at
hand and small, from plain answers that are timed; once it was begun, from the pace of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..models.footprint import GIB, Footprint, available
from ..models.loading import has_tokenizer, load_tokenizer, model_config, source_of
from ..records.jsonl import read_records
from ..references.embedding import default_embedder
from ..storage.json_files import Values
from ..tasks.formats import Format, format_key
from ..types import Question
from .data import Data, load_model, spread
from .study_config import OnQuestions

SAMPLE = 64  # questions of a data set whose tokens are counted
TIMED, SMALL = 8, 2 * GIB  # questions that are answered to see how fast it is, by weights that load in seconds


@dataclass(frozen=True)
class Plan:
    """What would be run, and what it takes.

    Attributes:
        values: plain ones, for programs.
        lines: the same for a person.
    """

    values: Values
    lines: Sequence[str]


def foresee(config: OnQuestions, data: Data, times: int, weights: Footprint) -> tuple[Values, list[str]]:
    """What a study takes at least where each question is answered so many ``times``, for programs and for a person.

    FLOPs are those of plain answers, and of the references' prompts once: matrices of the model times tokens. Re-mixing
    costs more; a finished run says how much of each arm, in such answers. ``room`` is what is free, in bytes, where the
    model would be loaded; None: not known. ``minutes`` are those of these FLOPs at the pace of a few plain answers,
    which are asked for it; None: the weights are not at hand, or large.

    Raises:
        ModelError: its tokenizer cannot be read.
    """
    tokenizer, note = _tokenizer(config)
    longest = int(getattr(model_config(config.model, config.revision), "max_position_embeddings", 0) or 1 << 20)
    tokens, pools = 0.0, set[Any]()
    for name, asked in data.items():
        format = config.format_of(name)
        tokens += times * _tokens(asked.questions, format, tokenizer, longest)
        pool = (tuple(asked.references), str(format_key(format)))
        if pool not in pools:  # data sets with one pool share it
            tokens += _tokens(asked.references, format, tokenizer, longest)
            pools.add(pool)
    answers, flops = times * sum(len(asked.questions) for asked in data.values()), tokens * weights.flops_per_token
    room, lines = _room(config.device), [f"model: {weights}"]
    if room is not None:
        fits = "" if weights.bytes <= room else "; it does not fit: take dtype bfloat16, or quantize"
        lines.append(f"memory: {room / GIB:.1f} GiB are free{fits}")
    pace = _pace(config, data, tokenizer, longest, weights) if room is not None and weights.bytes <= room else None
    minutes = None if pace is None else flops / pace / 60
    timed = (
        "not timed, for its weights are not at hand or large; --begun tells of a run that was begun"
        if minutes is None
        else f"at least {minutes:.2g} minutes here, as some were just timed; re-mixing takes longer (--begun)"
    )
    lines.append(f"{answers:,} answers, plain ones: {flops:.2e} FLOPs with the references' prompts; {timed}")
    return {**asdict(weights), "room": room, "answers": answers, "flops": flops, "minutes": minutes}, [*lines, *note]


def _pace(
    config: OnQuestions, data: Data, tokenizer: PreTrainedTokenizerBase, longest: int, weights: Footprint
) -> float | None:
    """FLOPs a second of plain answers to some of the questions, without their images; a first one warms up."""
    source, (name, asked) = Path(source_of(config.model)), next(iter(data.items()))
    if weights.bytes > SMALL or not any(source.glob("*.safetensors")):
        return None
    model, format = load_model(config), config.format_of(name)
    some = [replace(question, images=()) for question in spread(asked.questions, TIMED)]
    prompts = [format.prompt(question, tokenizer, longest) for question in some]
    model.prefill(prompts[:1], keep=False)
    begun = perf_counter()
    model.prefill(prompts, batch_size=config.batch_size, keep=False)
    return _tokens(some, format, tokenizer, longest) * weights.flops_per_token / (perf_counter() - begun)


def _tokenizer(config: OnQuestions) -> tuple[PreTrainedTokenizerBase, list[str]]:
    """The model's; in the place of one that a folder lacks, the embedder's, which is said."""
    if has_tokenizer(config.model):
        return load_tokenizer(config.model, config.revision), []
    said = f"tokens: counted by the embedder's tokenizer, as {config.model} has none; a run needs the model's own"
    return default_embedder().tokenizer, [said]


def _tokens(questions: Sequence[Question], format: Format, tokenizer: Any, longest: int) -> float:
    """Of all their prompts and options, estimated from some of them; images are not counted."""
    some = spread(questions, SAMPLE)
    prompts = [format.prompt(replace(question, images=()), tokenizer, longest) for question in some]
    each = [len(prompt.ids) + sum(map(len, prompt.options)) for prompt in prompts]
    return fmean(each) * len(questions) if each else 0.0


def _room(device: str | None) -> int | None:
    import torch

    if device in (None, "auto", "cpu"):
        return available(None)
    return available(device) if torch.cuda.is_available() else None


def left(folder: Path | None, kind: type[Any], data: Data, arms: Mapping[str, int]) -> Iterator[str]:
    """How long the rest of a run takes, arm by arm, at the pace of its own finished answers: at least, where an arm has
    none yet, which is named. References that are not prepared yet are not counted.

    Args:
        folder: of the run that was begun; None: nothing is reported.
        kind: of its records, which say how long they took.
        arms: how often each arm answers a question, by the name that records have.

    Raises:
        DataError: it is no run folder, or a line of its records is broken.
    """
    if folder is None:
        return
    records = [r for r in read_records(folder, kind) if r.arm in arms]
    asked = sum(len(one.questions) for one in data.values())
    done = Counter(r.arm for r in records)
    timed = [r for r in records if r.seconds]
    if not timed:
        yield "left: no answer is finished yet that says how long it took"
        return
    paces = {arm: fmean(r.seconds for r in timed if r.arm == arm) for arm in dict.fromkeys(r.arm for r in timed)}
    hours = sum((asked * times - done[arm]) * paces[arm] for arm, times in arms.items() if arm in paces) / 3600
    untimed = [arm for arm in arms if arm not in paces]
    least = "at least " if untimed else ""
    yield f"left: {least}{hours:.2g} hours, as {len(records):,} of {asked * sum(arms.values()):,} answers are finished"
    yield from (f"  {arm}: {pace:.2g} s an answer" for arm, pace in paces.items())
    if untimed:
        yield f"  not timed yet, and not counted: {', '.join(untimed)}"
