"""Reference sets built: questions embedded and run along the model's own pathway, or taken from the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import DataError, disk_says
from ..models.fingerprint import fingerprint, numbers_of, settings_identity
from ..models.names import public_name
from ..progress import RESUMES, Progress, bar, by_size, silent
from ..storage.checksummed import load_checksummed, save_shard, shards_of
from ..storage.folders import cache_folder, writable_folder
from ..storage.identity import digest, routing_versions
from ..storage.lock import in_turn
from ..tasks.formats import Format, description, format_key
from ..tasks.question_files import first, of_split, read_question, unique
from ..tasks.sources import LEARNED_FROM
from ..tasks.sources import questions as read_questions
from ..types import Question
from .embedding import unit_vectors
from .reference_set import ReferenceSet, is_reference_set

if TYPE_CHECKING:
    from ..models.routed import RoutedModel
    from .embedding import Embedder

SHARD = 32  # questions that are run, and stored, together
Shards = Callable[[Sequence[int]], Iterator[tuple[int, Mapping[str, Tensor]]]]
"""Computes shards, each named by the number of its first question, in any order."""


def build_reference_set(
    model: RoutedModel,
    questions: Sequence[Question],
    embedder: Embedder,
    *,
    format: str | Format = "cloze",
    scratch: str | Path | None = None,
    progress: Progress = silent,
    compute: Shards | None = None,
) -> ReferenceSet:
    """Embed and run every question.

    Args:
        model: that is run.
        questions: with their answers.
        embedder: of retrieval.
        format: how questions are put.
        scratch: folder for finished shards; an interrupted build with the same arguments resumes from there. They stay
            until ``forget_shards`` is called, once the set is saved.
        progress: shows how many shards are done.
        compute: computes shards elsewhere (see ``study.reference_shards``); by default the model here does.

    Raises:
        DataError: no questions, one without an answer, or two of one id.
    """
    unanswered = [q.id for q in questions if q.answer is None]
    if not questions or unanswered:
        raise DataError(
            "Expected reference questions with answers, got "
            + (f"none for {', '.join(unanswered[:3])}" if unanswered else "no questions at all")
            + "; references are labeled questions."
        )
    unique([(f"question {i}", question) for i, question in enumerate(questions)], "the references")
    card = {
        "source": digest([q.row() for q in questions]),
        "embedder": {"name": embedder.name, "revision": embedder.revision},
        "format": format_key(format),
        "versions": routing_versions(),
        **_card_of(model),
    }
    of, folder = _of(card), None if scratch is None else writable_folder(scratch, "choose a writable folder")
    shards: dict[int, Mapping[str, Tensor]] = {
        i: load_checksummed(path, "delete it, and build again to resume")
        for i, path in ({} if folder is None else shards_of(folder, of)).items()
    }
    RESUMES.set(RESUMES.get() or bool(shards))
    firsts = range(0, len(questions), SHARD)
    missing = [i for i in firsts if i not in shards]
    run = compute or (
        lambda starts: ((i, reference_shard(model, questions[i : i + SHARD], embedder, format)) for i in starts)
    )
    sizes = [min(SHARD, len(questions) - i) for i in missing]
    for i, shards[i] in by_size(progress, run(missing), "references", sizes):
        if folder is not None:
            save_shard(shards[i], folder, of, i)
    parts = [shards[i] for i in firsts]
    correct = torch.cat([p["correct"] for p in parts])
    scores = torch.cat([p["scores"] for p in parts]).split([len(q.choices) for q in questions])
    return ReferenceSet(
        tuple(questions),
        torch.cat([p["embeddings"] for p in parts]),
        torch.cat([p["pathways"] for p in parts]),
        torch.cat([p["routers"] for p in parts]),
        tuple(tuple(s.tolist()) for s in scores),
        correct,
        card | _counts(correct),
    )


def _counts(correct: Tensor) -> dict[str, Any]:
    """What a set's card says beside what its shards are named by."""
    rate = float(correct.float().mean())
    return {"questions": len(correct), "successes": int(correct.sum()), "success_rate": rate}


def relabeled(sets: Sequence[ReferenceSet], questions: Sequence[Question]) -> ReferenceSet:
    """Sets of one model one after the other, with the right choices that ``questions`` say: a model's pathways do not
    depend on labels, so nothing is run again.

    Args:
        sets: whose questions these are, but for their right choices.
        questions: in the same order.
    """
    scores = tuple(row for one in sets for row in one.scores)
    chosen = torch.tensor([torch.tensor(row).argmax() for row in scores])
    correct = chosen == torch.tensor([q.answer for q in questions])
    return replace(
        sets[0],
        questions=tuple(questions),
        embeddings=torch.cat([one.embeddings for one in sets]),
        pathways=torch.cat([one.pathways for one in sets]),
        routers=torch.cat([one.routers for one in sets]),
        scores=scores,
        correct=correct,
        card=sets[0].card | {"source": digest([q.row() for q in questions])} | _counts(correct),
    )


def forget_shards(built: ReferenceSet, scratch: str | Path) -> None:
    """Delete the finished shards of a set that was built, once it is saved elsewhere; nothing else that lies there.
    Another process that built the same set may have done so already.

    Raises:
        DataError: one cannot be deleted.
    """
    of = _of({key: value for key, value in built.card.items() if key not in _counts(built.correct)})
    try:
        for path in shards_of(Path(scratch), of).values():
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"Could not delete {path}: {disk_says(error)}; the set is built, delete it yourself."
        ) from error


def _of(card: Mapping[str, object]) -> str:
    """What the names of a set's shards begin with."""
    return digest(card)[:20]


def _card_of(model: RoutedModel) -> dict[str, Any]:
    """What a card says of the model."""
    return {
        "model_name": public_name(model.name),
        "model": fingerprint(model),
        "settings": settings_identity(model),
        "layers": list(model.layers),
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "revision": getattr(model.model.config, "_commit_hash", None),
    }


def reference_shard(
    model: RoutedModel, questions: Sequence[Question], embedder: Embedder, format: str | Format
) -> dict[str, Tensor]:
    """What a set keeps of some questions: embeddings ``[N, D]``, pathways and routers ``[N, L, E]``, scores of all
    their choices in one row, and which were answered right ``[N]``."""
    states = model.prefill([model.encode(q, format) for q in questions])
    each = model.choice_scores(states)
    answers = torch.tensor([q.answer for q in questions])
    return {
        "embeddings": torch.from_numpy(unit_vectors(embedder, [description(q) for q in questions])),
        "pathways": torch.stack([s.own for s in states]).cpu(),
        "routers": torch.stack([s.router for s in states]).cpu(),
        "scores": torch.cat(each).cpu(),
        "correct": torch.stack([scores.argmax() for scores in each]).cpu() == answers,
    }


def as_reference_set(
    refset: str | Path | ReferenceSet | Sequence[Question | Mapping[str, object]],
    model: RoutedModel,
    embedder: Embedder,
    format: Format,
) -> ReferenceSet:
    """A reference set, read, or built of questions, rows of them (``read_question``) or a source of them, and cached
    under what it was built from.

    Raises:
        DataError: as ``labeled_questions``, or something else than questions.
    """
    if isinstance(refset, ReferenceSet):
        return refset
    if isinstance(refset, str | Path):
        if is_reference_set(refset):
            return ReferenceSet.load(refset)
        refset = labeled_questions(refset)
    questions: list[Any] = [*refset] if isinstance(refset, list | tuple) else [refset]
    for i, one in enumerate(questions):
        if isinstance(one, Mapping) and not isinstance(refset, Mapping):
            questions[i] = read_question(one, f"references, index {i}", f"references.{i}")
    if strange := [one for one in questions if not isinstance(one, Question)]:
        raise DataError(
            "Expected a source of questions, a ReferenceSet or a list of Question as references, got "
            f"{type(strange[0]).__name__}."
        )
    return reference_set_of(questions, model, embedder, format)


def labeled_questions(source: str | Path, *, split: str | None = None, limit: int | None = None) -> list[Question]:
    """References of a source: whatever ``tasks.questions`` takes, or the folder of a built set.

    Args:
        source: see there.
        split: which split; None: the first of ``references``, ``train`` and ``validation`` that the source has.
        limit: see there.

    Raises:
        DataError, UnknownNameError, ArtifactError: as there.
    """
    if not is_reference_set(source):
        return read_questions(source, split=split, limit=limit, usual=LEARNED_FROM)
    placed = [(str(source), question) for question in ReferenceSet.load(source).questions]
    return first(of_split(placed, split, str(source)), limit)


def reference_set_of(
    questions: Sequence[Question], model: RoutedModel, embedder: Embedder, format: str | Format
) -> ReferenceSet:
    """The reference set of some questions, from the cache if it was built before.

    Of processes that share the cache and lack the same set one builds it, and the others wait.
    """
    built_from = [q.row() for q in questions], *numbers_of(model), embedder.name, embedder.revision, format_key(format)
    folder = cache_folder() / "refsets" / digest([*built_from, settings_identity(model)])[:20]
    with suppress(DataError):  # none yet, or a broken one, which is built anew over the old one
        return ReferenceSet.load(folder)
    building = folder.parent / "building"
    with in_turn(building / f"{folder.name}.lock"):
        with suppress(DataError):  # another process has built it by now, and keeps things beside it already
            return ReferenceSet.load(folder)
        built = build_reference_set(model, questions, embedder, format=format, scratch=building, progress=bar)
        saved = replace(built, folder=built.save(folder))
        forget_shards(built, building)
        return saved
