"""What references teach by themselves, computed once: from ``ReferenceArtifact`` to tensors, in memory and on disk."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import DataError
from ..ledger import Entry, summed
from ..losses import right_answer_loss
from ..models.fingerprint import fingerprint, numbers_of
from ..models.provenance import own_pathway
from ..models.routed import RoutedModel
from ..problem import Loss, ReferenceArtifact, ReferenceBatch
from ..progress import Progress, by_size, silent
from ..routing.scores import TailScores
from ..routing.states import State, normalized
from ..settings import RemixSettings
from ..storage.identity import digest
from ..storage.kept import NoSource, TensorStore, code_of
from ..tasks.formats import Format
from ..types import Head, Prompt, Question

ARTIFACTS = "artifacts"
"""The folder beside a set, or beside all sets of the cache."""
BATCH = 16
SAMPLE = 16  # references that what an artifact takes is measured on
States = Callable[[Sequence[Prompt]], Sequence[State]]
_STORES: WeakKeyDictionary[RoutedModel, tuple[str, dict[Hashable, TensorStore]]] = WeakKeyDictionary()
"""Of each model its fingerprint, and what was computed with these weights."""


def of_references(
    artifact: ReferenceArtifact,
    model: RoutedModel,
    prompts: Sequence[Prompt],
    answers: Sequence[int],
    states: States,
    settings: RemixSettings,
    *,
    folder: Path | None = None,
    progress: Progress = silent,
) -> Tensor:
    """``[N, …]`` an artifact of N references.

    What was computed is cached as long as the model is unchanged, and in a folder if there is one: some at a time, so
    that an interrupted run resumes.

    Args:
        artifact: what is asked for.
        model: whose references they are.
        prompts: of the references.
        answers: their right choices.
        states: from prompts to their prefilled states, called for those that are new.
        settings: of which ``pathway``, ``gradient``, ``scope``, ``loss`` and ``head`` matter here.
        folder: of the reference set.
        progress: shows how many are still to be computed.
    """
    store, counted = (_store(a, model, settings, folder) for a in (artifact, _flops_of(artifact)))
    asked = list(zip(prompts, answers, strict=True))
    keys = [key_of(prompt, answer) for prompt, answer in asked]
    new = list({k: pair for k, pair in zip(keys, asked, strict=True) if k not in store or k not in counted}.items())
    parts = [new[i : i + BATCH] for i in range(0, len(new), BATCH)]
    shown = by_size(progress, parts, f"references: {artifact.name}", map(len, parts)) if parts else ()
    try:
        for part in shown:
            found = states([prompt for _, (prompt, _) in part])
            batch, spent = _batch(model, found, torch.tensor([answer for _, (_, answer) in part]), settings)
            names = [key for key, _ in part]
            store.add(names, artifact.compute(batch).detach())
            counted.add(names, torch.tensor([entry.flops for entry in spent()], dtype=torch.float64))
    finally:  # an interrupted run keeps what it has
        store.write()
        counted.write()
    return torch.stack([store[key] for key in keys])


def taught(
    artifact: ReferenceArtifact,
    model: RoutedModel,
    questions: Sequence[Question],
    settings: RemixSettings | None = None,
    *,
    format: str | Format = "cloze",
    folder: Path | None = None,
    progress: Progress = silent,
) -> Tensor:
    """``[N, …]`` what N labeled questions teach by themselves, such as ``INTEGRATED_GRADIENT``; cached in memory as
    long as the model is unchanged, and in a folder if there is one.

    Args:
        artifact: what is asked for.
        model: along whose own pathways.
        questions: with their answers.
        settings: of which ``pathway``, ``gradient``, ``scope``, ``loss`` and ``head`` matter here.
        format: how they are put.
        folder: where what references teach is stored, such as ``ReferenceSet.artifacts_folder``.
        progress: shows how many are still to be computed.

    Raises:
        DataError: a question without its answer, or one that the model cannot read.
    """
    settings = RemixSettings() if settings is None else settings
    if unlabeled := [q.id for q in questions if q.answer is None]:
        raise DataError(f"Expected labeled questions, got {unlabeled[0]!r} without an answer; leave it out.")
    prompts, answers = [model.encode(q, format) for q in questions], [q.answer or 0 for q in questions]
    states = partial(model.prefill, scope=settings.scope, keep=False)
    return of_references(artifact, model, prompts, answers, states, settings, folder=folder, progress=progress)


def mean_flops(
    artifact: ReferenceArtifact,
    model: RoutedModel,
    prompts: Sequence[Prompt],
    answers: Sequence[int],
    states: States,
    settings: RemixSettings,
    *,
    folder: Path | None = None,
) -> float:
    """What an artifact takes a reference beyond its prompt; arguments as above."""
    of_references(artifact, model, prompts, answers, states, settings, folder=folder)
    counted = _store(_flops_of(artifact), model, settings, folder)
    return sum(counted[key_of(*pair)].item() for pair in zip(prompts, answers, strict=True)) / len(prompts)


def _flops_of(artifact: ReferenceArtifact) -> ReferenceArtifact:
    """Kept beside it, under a name of its own."""
    return replace(artifact, name=f"{artifact.name}, FLOPs")


def key_of(prompt: Prompt, answer: int) -> bytes:
    """Of a labeled prompt."""
    special: list[object] = [prompt.given, prompt.after] if any(prompt.given) or prompt.after else []
    special += [] if prompt.extra is None else [prompt.extra.digest]
    return bytes.fromhex(digest([prompt.ids, prompt.options, prompt.lengths, answer, *special]))[:16]


def _store(
    artifact: ReferenceArtifact, model: RoutedModel, settings: RemixSettings, folder: Path | None
) -> TensorStore:
    """Where an artifact is stored: in memory alone, if the set has no folder or the code no file to identify it by."""
    now = fingerprint(model)
    of, stores = _STORES.get(model, ("", {}))
    if of != now:
        _, stores = _STORES[model] = now, {}
    head = model.head_for(settings.head)
    depends = (artifact.name, settings.pathway, settings.gradient, settings.scope, settings.loss, head)
    code: Hashable
    try:
        code = tuple(code_of(artifact.compute))
    except NoSource:
        code, place = artifact.compute, None
    else:
        place = None if folder is None else folder / ARTIFACTS
    if (key := (depends, code, folder)) not in stores:
        identity = None if place is None else [*depends, code, *numbers_of(model)]
        stores[key] = TensorStore(place, identity)
    return stores[key]


def _batch(
    model: RoutedModel, states: Sequence[State], answers: Tensor, settings: RemixSettings
) -> tuple[ReferenceBatch, Callable[[], list[Entry]]]:
    """References with tails that every expert of every layer acts on; and what each took so far."""
    made: list[TailScores] = []
    own = own_pathway(states, model.layers, settings.scope, settings.pathway).own
    movable = torch.ones_like(own, dtype=torch.bool)
    movable[..., model.sites[0].mixable :] = False

    def tails(head: Head) -> TailScores:
        made.append(
            TailScores(
                model.model,
                model.sites,
                model.flops,
                states,
                torch.arange(len(states)),
                own,
                movable.any(-1),
                movable,
                settings.scope,
                gradient=settings.gradient if settings.pathway == "router" else None,
                head=head,
                relative=model.letters_alone and settings.loss != "likelihood",
            )
        )
        return made[-1]

    def loss(head: Head) -> Loss:
        run = tails(head)
        return lambda weights, running=None: right_answer_loss(run(weights, running), answers, settings.loss)

    own_scores = pad_sequence([normalized(s, s.token_scores) for s in states], True, -torch.inf)
    batch = ReferenceBatch(
        own=own,
        used=torch.stack([s.own for s in states]) > 0,
        kind=settings.pathway,
        router=torch.stack([s.router for s in states]),
        router_input=torch.stack([s.router_input for s in states]),
        movable=movable,
        hidden=torch.stack([s.last_hidden for s in states]),
        answers=answers,
        own_scores=own_scores,
        own_loss=right_answer_loss(own_scores, answers.to(own_scores.device), settings.loss),
        scores=tails("full"),
        loss=loss("full"),
        cheap_loss=loss(model.head_for(settings.head)),
    )
    return batch, lambda: [summed(tails.spent[i] for tails in made) for i in range(len(states))]
