"""From a study's configuration to what it takes: nothing of the model is read but its configuration and tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import psutil
import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from ..ledger import Entry, Ledger, summed
from ..models.footprint import GIB, Footprint, as_dtype, available, dtype_of
from ..models.loading import has_tokenizer, load_tokenizer, model_config, model_footprint
from ..models.routed import RoutedModel
from ..models.scaled import Ratio, narrow, ratio_of, short, short_bytes
from ..progress import working
from ..references.embedding import default_embedder
from ..routing.states import State
from ..tasks.formats import format_key
from ..types import Question
from .config import OnQuestions
from .data import Asked, Data, spread
from .forecast import Forecast, Memory
from .hardware import SHEETS, Hardware, is_here
from .needs import ArmNeeds, SetNeeds
from .pace import Pace, measured_pace, sheet_pace

SAMPLE = 32  # questions of a data set whose prompts are laid out
DEVICE_CACHE = 2**30  # bytes of prompts that a model keeps on a device other than the CPU
TOGETHER = 32  # prompts that are prefilled side by side, of references and neighbours
COPIES = 3  # of what a layer's matrices give, beside one another while it is run
REPORT, ROW = 3e4, 4.5e4  # bytes of a report and a summary, and of an arm's part on one data set, about
Needs = tuple[Sequence[ArmNeeds], Mapping[str, SetNeeds]]


def foresee(
    config: OnQuestions,
    data: Data,
    hardware: Hardware,
    rehearse: Callable[[RoutedModel], Needs] | None = None,
    times: int = 1,
) -> Forecast:
    """What a study takes.

    Args:
        config: of the study.
        data: its questions and references.
        hardware: what it is planned for.
        rehearse: gives the needs of all arms, from a narrow model; None: of plain answers alone.
        times: how often each question is answered, of plain answers.

    Raises:
        ModelError: there is no such model, its tokenizer cannot be read, or its family cannot be made narrow.
    """
    weights = model_footprint(config.model, dtype=config.dtype, quantize=config.quantize, revision=config.revision)
    shape = model_config(config.model, revision=config.revision)
    tokenizer, notes = _tokenizer(config)
    model = narrow(shape, tokenizer)
    arms, sets = (rehearse or (lambda m: _plain(config, data, m, times)))(model)
    dtype = dtype_of(shape) if config.dtype == "auto" else as_dtype(config.dtype)
    batch = model.prefill([model.encode(q, config.format_of(name)) for name, q in _batch(config, data)], keep=False)
    room, on_cpu = _room(_device(config), hardware), hardware.sheet is None and _device(config) == "cpu"
    memory = _memory(config, data, model, weights, batch, arms, ratio_of(shape, model, dtype), room, on_cpu)
    pace, why = _pace(config, shape, weights, model, batch, dtype, hardware)
    answers = sum(one.answers for one in arms)
    return Forecast(
        weights,
        memory,
        room,
        arms,
        sets,
        pace,
        sum(one.row_bytes for one in arms) + 8 * answers + REPORT + ROW * len(arms),
        [*notes, *why],
        rehearse is not None,
    )


def _tokenizer(config: OnQuestions) -> tuple[PreTrainedTokenizerBase, list[str]]:
    """The model's; in the place of one that a folder lacks, the embedder's."""
    if has_tokenizer(config.model):
        return load_tokenizer(config.model, config.revision), []
    said = f"tokens: counted by the embedder's tokenizer, as {config.model} has none; a run needs the model's own"
    return default_embedder().tokenizer, [said]


def _batch(config: OnQuestions, data: Data) -> list[tuple[str, Question]]:
    """Questions of all data sets, as many as are answered together."""
    size, parts = config.batch_size, len(data)
    each = [(name, q) for name, asked in data.items() for q in spread(asked.questions, -(-size // parts))]
    return each[:size]


def _plain(config: OnQuestions, data: Data, model: RoutedModel, times: int) -> Needs:
    """Plain answers, so many times, and the references' prompts."""

    def work(questions: Sequence[Question], dataset: str) -> Entry:
        some = spread(questions, SAMPLE)
        entries = [model.plain_work(model.encode(q, config.format_of(dataset))) for q in some]
        return summed(entries).times(len(questions) / max(1, len(some)))

    arms = []
    for name, asked in data.items():
        ledger = Ledger(prefill=work(asked.questions, name).times(times))
        arms.append(ArmNeeds(name, "plain", len(asked.questions) * times, times, ledger))
    # of data sets with one pool the first pays for it
    pools = {
        (tuple(asked.references), str(format_key(config.format_of(name)))): name
        for name, asked in reversed([*data.items()])
    }
    return arms, {name: SetNeeds(work(pool, name).flops) for (pool, _), name in pools.items()}


def _room(device: str, hardware: Hardware) -> float | None:
    if hardware.sheet is not None:
        return hardware.sheet.memory
    return available(None if device == "cpu" else device) if is_here(device) else None


def _memory(
    config: OnQuestions,
    data: Data,
    model: RoutedModel,
    weights: Footprint,
    batch: Sequence[State],
    arms: Sequence[ArmNeeds],
    ratio: Ratio,
    room: float | None,
    on_cpu: bool,
) -> Memory:
    """What a batch takes is told from what its matrices give: FLOPs over twice the width that enters them."""
    each = [_states_bytes(config, model, asked, name, ratio) for name, asked in data.items()]
    whole, again = (max(part) for part in zip(*each, strict=True))
    budget = max(0.0, (room or 0.0) - weights.bytes) / 4 if on_cpu else DEVICE_CACHE
    forward = [state.work.forward.times(max(1.0, TOGETHER / len(batch))) for state in batch]
    layer = sum(work.total - work.head for work in forward) / len(model.flops.linear)
    logits = 4 * sum(work.head for work in forward)
    step = max(one.step for one in arms)
    numbers = max(layer * ratio.itemsize * COPIES + logits, step * ratio.itemsize * COPIES) / (2 * model.flops.width)
    process = psutil.Process().memory_info()
    own = process.rss - getattr(process, "shared", 0)  # pages of files are given back when others need them
    return Memory(weights.bytes, min(whole, budget), numbers, own if on_cpu else 0.0, again)


def _states_bytes(
    config: OnQuestions, model: RoutedModel, asked: Asked, dataset: str, ratio: Ratio
) -> tuple[float, float]:
    """Of a data set's prompts, prefilled; and of those that arms find again, which take turns with a batch."""

    def of(questions: Sequence[Question]) -> float:
        some = spread(questions, SAMPLE)
        prompts = [model.encode(q, config.format_of(dataset)) for q in some]
        return sum(map(ratio.bytes_of, model.prefill(prompts, keep=False))) * len(questions) / max(1, len(some))

    own, known = of(asked.questions), of(asked.references)
    return own + known, own * min(1.0, config.batch_size / len(asked.questions)) + known


def _pace(
    config: OnQuestions,
    shape: PreTrainedConfig,
    weights: Footprint,
    model: RoutedModel,
    batch: Sequence[State],
    dtype: torch.dtype,
    hardware: Hardware,
) -> tuple[Pace | None, list[str]]:
    """How fast the device is; or why that is not known."""
    if hardware.sheet is not None:
        return sheet_pace(hardware.sheet, hardware.share, dtype, weights, model, batch), []
    device = _device(config)
    if not is_here(device):
        return None, [f"hours: {device} is not here; --hardware NAME takes a data sheet's: {', '.join(SHEETS)}"]
    needed = short_bytes(shape, dtype, weights.layers)
    if needed > (free := available(None if device == "cpu" else device)):
        told = f"two layers of the model's width take {needed / GIB:.1f} GiB, and {free / GIB:.1f} are free"
        return None, [f"hours: not measured; {told}; --hardware NAME takes a data sheet's"]
    with working(f"measuring {device}"):
        cut = short(shape, model.tokenizer, dtype, device, weights.layers)
        told = f"measured here, on {device}: two layers of the model's width"
        return measured_pace(cut, [state.prompt for state in batch], told), []


def _device(config: OnQuestions) -> str:
    return "cpu" if config.device in (None, "auto") else str(config.device)
