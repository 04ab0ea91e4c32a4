"""Sets of texts whose routing is counted: traces in files, or questions that a model is run on."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import chain, islice
from os.path import exists, isdir, isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from c3po_benchmarks import holds_texts, texts_of
from torch import Tensor

from c3po_adaptive import DataError, NotFinite, Question, SettingError, borrowed
from c3po_adaptive.models.traced import Trace, is_trace, read_trace
from c3po_adaptive.study import Progress, silent
from c3po_adaptive.tasks import ASKED, again_in_words, distinct, questions

from .measure import kind_of
from .statistics import RoutingStatistics, RoutingSums

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from c3po_adaptive import Format, LayerRouting, RoutedModel
    from c3po_adaptive.types import Prompt

T = TypeVar("T")
PLACES = ("prompt", "last", "answer")
BATCH = 32
"""Questions that are run together."""
SUFFIXES = (".parquet", ".txt", ".jsonl", ".json")
"""Of files that are meant, whether they are there or not."""
NAMED = 3
"""Sources that a message names."""
PIECE = 1024
"""Tokens of a trace that are counted together: what a long one takes of memory."""


def routing_statistics(
    source: str | Path | Iterable[Any],
    model: RoutedModel | nn.Module | None = None,
    *,
    split: str | None = None,
    limit: int | None = None,
    format: str | Format = "cloze",
    progress: Progress = silent,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> RoutingStatistics:
    """Statistics of a model's routing over a set of texts, which stream by: of each a hash is kept, and
    repeated ones count once.

    Args:
        source: a file of a trace, or a folder of them, whose subfolders are kinds; or a source of texts (see
            ``c3po_benchmarks.texts_of``); or any source of questions (see ``c3po_adaptive.tasks.questions``), whose
            kinds are their subjects; or several traces, files of traces, questions or texts themselves; or one text of
            two words at least.
        model: that is run on questions and texts; traces need none. From ``load_moe_model``, or of transformers, which
            is left as it was.
        split: of a source of questions.
        limit: at most that many texts; of questions spread over the source.
        format: how questions are put.
        progress: shows how far it is.
        tokenizer: of a model of transformers.

    Raises:
        SettingError: questions and no model, or one without its tokenizer; or traces of several models.
        DataError: nothing to count, or whatever reading a source raises.
    """
    files = trace_files(source)
    if files is not None:
        traces = ((read_trace(file), kind) for file, kind in progress(files[:limit], "traces"))
        return _of_traces(traces, _called(source))
    if isinstance(source, str) and is_text(source):
        source = [source]
    if isinstance(source, str | Path):
        with borrowed(_given(model), tokenizer) as run:
            if holds_texts(source):
                return _of_texts(texts_of(source, limit=limit), run, str(source), progress)
            asked = questions(source, split=split, limit=limit, usual=ASKED)
            return _of_questions(asked, run, str(source), format, progress)
    if not isinstance(source, Iterable):
        raise DataError(
            f"Expected texts, questions, traces or a source of them, got {type(source).__name__}; the model stands "
            "behind them: routing_statistics(texts, model)."
        )
    several = islice(source, limit)
    first = next(several, None)
    every = chain([] if first is None else [first], several)
    if isinstance(first, Trace):
        return _of_traces(((trace, "") for trace in _all(Trace, every)), "traces")
    with borrowed(_given(model), tokenizer) as run:
        if isinstance(first, str):
            return _of_texts(list(_all(str, every)), run, "texts", progress)
        return _of_questions(list(_all(Question, every)), run, "questions", format, progress)


def is_text(source: str) -> bool:
    """Whether it is several words, and no name of texts or of what is there."""
    return len(source.split()) > 1 and not (source.endswith(SUFFIXES) or holds_texts(source) or exists(source))


def _all(kind: type[T], texts: Iterable[object]) -> Iterator[T]:
    """The texts of a set as they come, which are of one kind.

    Raises:
        DataError: one is something else.
    """
    for text in texts:
        if not isinstance(text, kind):
            raise DataError(
                f"Expected traces, files of traces, questions or texts, of one kind, got {type(text).__name__} among "
                "them; read_question(row, where) of c3po_adaptive makes a question of a row."
            )
        yield text


def trace_files(source: Any) -> list[tuple[Path, str]] | None:
    """Files of traces that a source names, each with its kind: the name of its subfolder; None if it names none.

    Raises:
        DataError: some of the files are none, or damaged.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if isfile(path):
            return [(path, "")] if is_trace(path) else None
        if not isdir(path):
            return None
        found = [(f, "") for f in sorted(path.glob("*.parquet"))]
        found += [(f, f.parent.name) for f in sorted(path.glob("*/*.parquet"))]
        others = [str(file) for file, _ in found if not is_trace(file)]
        if len(others) == len(found):
            return None
        if others:  # a damaged one is not left out without a word
            raise DataError(f"Expected traces alone in {path}, got others: {', '.join(others[:3])}; move them away.")
        return found
    if isinstance(source, list | tuple) and source and all(isinstance(one, str | Path) for one in source):
        parts = [trace_files(one) for one in source]
        if not any(parts) and any(is_text(str(one)) for one in source):
            return None
        if missing := [str(one) for one, part in zip(source, parts, strict=True) if part is None]:
            more = f", and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            named = ", ".join(f"{one!r:.40}" if is_text(one) else one for one in missing[:NAMED])
            raise DataError(
                f"Expected files or folders of traces, got {named}{more}; give one source of another kind, or texts of "
                "several words."
            )
        return [pair for part in parts for pair in part or ()]
    return None


def _once(texts: Iterable[T], key: Callable[[T], object], what: str) -> Iterator[T]:
    """Each text as it comes, but for those that came before: intervals are over texts, as if each were drawn alone."""
    seen: set[bytes] = set()
    again = 0
    for text in texts:
        mark = sha256(pickle.dumps(key(text))).digest()
        again += mark in seen
        if mark not in seen:
            seen.add(mark)
            yield text
    if again:
        warnings.warn(f"{again} {what} are given again; each is counted once.", stacklevel=3)


def _of_trace(one: tuple[Trace, str]) -> object:
    trace, _ = one
    return trace.model, trace.name, trace.layers, trace.n_experts, trace.tokens.tolist(), trace.experts.tolist()


def _called(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else f"{len(source)} files of traces"


def _given(model: RoutedModel | nn.Module | None) -> RoutedModel | nn.Module:
    if model is None:
        raise SettingError(
            "Expected a model to run questions or texts on, got none; pass model=load_moe_model(…), or traces."
        )
    return model


def _of_traces(traces: Iterable[tuple[Trace, str]], name: str) -> RoutingStatistics:
    sums: RoutingSums | None = None
    shape: tuple[tuple[int, ...], int] | None = None
    model: tuple[str, str] | None = None
    names: dict[str, None] = {}
    most = 0
    for trace, kind in _once(traces, _of_trace, f"traces of {name}"):
        if shape is None or sums is None:
            shape, sums = (trace.layers, trace.n_experts), RoutingSums(len(trace.layers), trace.n_experts)
        elif shape != (trace.layers, trace.n_experts):
            raise SettingError(
                f"Expected traces of {len(shape[0])} layers × {shape[1]} experts as the first one is, got one of "
                f"{len(trace.layers)} × {trace.n_experts}; count models apart."
            )
        model = model or _model_of(trace)
        _check_model(model, _model_of(trace))
        _add(sums, trace, kind)
        names[trace.name] = None
        most = max(most, trace.experts.shape[-1])
    if sums is None or shape is None or not sums.whole.tokens:
        raise DataError(f"Expected traces in which something was recorded, got none in {name}; record again.")
    return sums.statistics(name, ", ".join(filter(None, names)), shape[0], most)


def _model_of(trace: Trace) -> tuple[str, str]:
    """What tells a trace's model from others, all its weights or, of an engine's trace, its name; and that name."""
    return trace.model or trace.name, trace.name or "an unknown model"


def _check_model(first: tuple[str, str], other: tuple[str, str]) -> None:
    """Refuse to count two models together, whose experts have nothing to do with each other.

    Raises:
        SettingError: with their names.
    """
    if first[0] != other[0]:
        weights = " with other weights, or with weights that nobody knows" if first[1] == other[1] else ""
        raise SettingError(
            f"Expected traces of one model in a set, got those of {first[1]} and of {other[1]}{weights}; put them into "
            "two sets, which are held side by side."
        )


def _add(sums: RoutingSums, trace: Trace, kind: str) -> None:
    """Count one trace."""
    T, L, _ = trace.experts.shape
    used = trace.experts >= 0
    if trace.weights is not None:
        used = used & (trace.weights > 0)
    names = PLACES if trace.prompt else ("text",)
    # [T] 0 before the prompt's last token, 1 at it, 2 behind it; or 0 where nobody knows
    place = (torch.arange(T)[:, None] >= torch.tensor([trace.prompt - 1, trace.prompt])).sum(1) * bool(trace.prompt)
    counts = torch.zeros(len(names), L, trace.n_experts, dtype=torch.long)
    together = torch.zeros(L, trace.n_experts, trace.n_experts)
    for start in range(0, T, PIECE):
        part = slice(start, start + PIECE)
        marks = torch.zeros(len(used[part]), L, trace.n_experts + 1)
        marks.scatter_(2, torch.where(used[part], trace.experts[part], trace.n_experts), 1.0)
        marks = marks[..., :-1]
        counts.index_add_(0, place[part], marks.long())
        together += torch.einsum("tla,tlb->lab", marks, marks)
    tokens = torch.bincount(place[used.any(2).any(1)], minlength=len(names))
    sums.together += together.long().numpy()
    _sum_up(sums, names, counts, tokens, kind, trace.tokens.tolist())


def _sum_up(sums: RoutingSums, names: Sequence[str], counts: Tensor, tokens: Tensor, kind: str, text: object) -> None:
    by_place = dict(zip(names, counts.numpy(), strict=True))
    sums.add(by_place, dict(zip(names, tokens.tolist(), strict=True)), kind, text)


def _of_texts(texts: Sequence[str], model: RoutedModel, name: str, progress: Progress) -> RoutingStatistics:
    texts = list(_once(texts, lambda text: text, f"texts of {name}"))
    return _of_prompts(texts, lambda text: (model.encode_text(text), "", text), model, name, progress)


def _of_questions(
    asked: Sequence[Question], model: RoutedModel, name: str, format: str | Format, progress: Progress
) -> RoutingStatistics:
    if not asked:
        raise DataError(f"Expected questions, got none in {name}; name another source or split.")
    asked, again = distinct(asked)
    if again:
        warnings.warn(f"{again_in_words(again, 'questions', name)}; each is counted once.", stacklevel=3)
    return _of_prompts(asked, lambda q: (model.encode(q, format), kind_of(q), q.row()), model, name, progress)


def _of_prompts(
    asked: Sequence[T],
    read: Callable[[T], tuple[Prompt, str, object]],
    model: RoutedModel,
    name: str,
    progress: Progress,
) -> RoutingStatistics:
    """What is asked, each read as a prompt, its kind, and what identifies it."""
    sums = RoutingSums(len(model.layers), model.n_experts)
    for start in progress(range(0, len(asked), BATCH), f"routing of {name}", None):
        prompts, kinds, texts = zip(*map(read, asked[start : start + BATCH]), strict=True)
        counting = Counting(torch.tensor([len(p.ids) for p in prompts]), len(model.layers), model.n_experts)
        model.prefill_along(prompts, counting)
        sums.together += counting.together.long().numpy()
        for kind, text, counts, tokens in zip(kinds, texts, counting.counts, counting.tokens, strict=True):
            _sum_up(sums, PLACES, counts, tokens, kind, text)
    return sums.statistics(name, model.name, model.layers, model.sites[0].top_k)


class Counting:
    """A rule that changes nothing, and counts the tokens that use each expert, and each two together.

    A prompt that is run again for each option counts once; the options' tokens all count.

    Attributes:
        counts: ``[B, 3, L, E]`` of each prompt, by ``PLACES``.
        tokens: ``[B, 3]`` how many tokens there are.
        together: ``[L, E, E]`` of all prompts.
    """

    def __init__(self, lengths: Tensor, layers: int, experts: int) -> None:
        self._lengths = lengths
        self.counts = torch.zeros(len(lengths), len(PLACES), layers, experts, dtype=torch.long)
        self.tokens = torch.zeros(len(lengths), len(PLACES), dtype=torch.long)
        self.together = torch.zeros(layers, experts, experts, dtype=torch.float64)

    def __call__(self, routing: LayerRouting) -> None:
        behind = routing.token[:, None] - self._lengths[routing.sample][:, None]
        place = (behind >= torch.tensor([-1, 0])).sum(1)
        rows = (routing.real & ((place == 2) | _first(routing))).nonzero().squeeze(1)
        used = torch.zeros(len(rows), self.counts.shape[-1])
        index, weights = routing.index.cpu()[rows], routing.weights.detach().cpu()[rows]
        if not weights.isfinite().all():
            raise NotFinite.of(f"router weights in MoE layer {routing.site.layer}", routing.weights)
        used.scatter_add_(1, index, (weights != 0).float()).clamp_(max=1)
        at = routing.sample[rows], place[rows]
        self.counts[:, :, routing.position].index_put_(at, used.long(), accumulate=True)
        self.together[routing.position] += used.T @ used
        if routing.position == 0:
            self.tokens.index_put_(at, torch.ones(len(rows), dtype=torch.long), accumulate=True)


def _first(routing: LayerRouting) -> Tensor:
    """``[R]`` whether a token is the first of its place in its prompt, padding aside."""
    seen: set[tuple[int, int]] = set()
    first = []
    for key, real in zip(
        zip(routing.sample.tolist(), routing.token.tolist(), strict=True), routing.real.tolist(), strict=True
    ):
        first.append(bool(real) and key not in seen)
        if first[-1]:
            seen.add(key)
    return torch.tensor(first, dtype=torch.bool)
