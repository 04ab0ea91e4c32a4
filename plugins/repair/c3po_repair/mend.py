"""Mend a model's routers by labeled questions: regress, try on references left out, and again along what was mended.

How far to go, and when to stop, is chosen by cross-fitting: each fold of the references is answered along routers that
were mended by the others. What the mended model is said to gain is what each fold gains as far as the others would go;
the model that is handed out is mended by all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from c3po_adaptive import (
    INTEGRATED_GRADIENT,
    DataError,
    Format,
    Question,
    RemixSettings,
    RoutedModel,
    as_routed,
    labeled_questions,
    read_question,
    router_tensors,
    taught,
    with_tensors,
)
from c3po_adaptive.study import Progress, by_size, silent
from c3po_adaptive.types import LossName

from .closed_form import Reads, check_routers, read
from .left_out import Answered, Repair, answered, folds_of, judged, once, parts_of, prefilled
from .limits import PENALTY, ROUNDS

SPREADS = (0.5, 1.0, 2.0, 4.0)
"""By how many nats what is added tells experts apart: the standard deviation of what it adds to a token's scores, over
experts, tokens and layers. A fitted router's own scores spread by 1.7 on the embedded model, one made of prompts by
0.14."""
ENOUGH = 0.01
"""Share of the loss that a round has to take off."""
FOLDS = 5
EVERYWHERE = RemixSettings.of({"learn_from": "all", "scope": "all"})
BACKWARD = 3
"""Forward passes that a gradient takes, its own included."""


def repair(
    model: RoutedModel | nn.Module,
    questions: str | Path | Sequence[Question | Mapping[str, object]],
    *,
    format: str | Format = "cloze",
    loss: LossName = "choices",
    penalty: float = PENALTY,
    rounds: int = ROUNDS,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress = silent,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Repair:
    """Mend routers by a regression in each MoE layer, along the model's own pathways and then along the mended ones.

    Args:
        model: whose routers score experts by a matrix; its weights are left as they are. From ``load_moe_model``, or of
            transformers, which is frozen as by that: the mended one shares its weights.
        questions: the references, with their answers: a source of them (see ``labeled_questions``), or records or rows
            (see ``read_question``); of which kind they are is not looked at.
        format: how they are put.
        loss: that experts' worth lowers.
        penalty: of the ridge, over the mean of the diagonal.
        rounds: at most. The second and later ones take as many gradients a reference as there are folds.
        seed: of the folds.
        folder: where what references teach is kept, such as ``ReferenceSet.artifacts_folder``.
        progress: shows how far it is.
        tokenizer: of a model of transformers.

    Raises:
        DataError: fewer than twenty different references, one without an answer, or something else; or as
            ``labeled_questions``.
        ModelError: routers that do more, or weights that cannot be exchanged.
        SettingError: no tokenizer, or one beside a model that has its own.
    """
    references, again = once(_references(questions))
    folds = folds_of(references, FOLDS, seed)
    routed = as_routed(model, tokenizer)
    check_routers(routed, prefilled(routed, references[:1], format)[0])
    mending = _Mending(routed, folds, format, loss, penalty, folder, progress)
    taken: list[dict[str, float]] = []
    while len(taken) < rounds and (found := mending.round()):
        taken.append(found)
    return Repair(mending.whole, tuple(taken), mending.before, mending.now, mending.flops, again)


def _references(given: object) -> list[Question]:
    """Those of a source, or those in hand."""
    if isinstance(given, str | Path):
        return labeled_questions(given)
    each = given if isinstance(given, list | tuple) else [given]
    strange = [one for one in each if not isinstance(one, Question | Mapping)]
    if strange or each is not given:
        raise DataError(
            "Expected references as a source of labeled questions, or as a list of Question or of rows, got "
            f"{type([*strange, given][0]).__name__}; labeled_questions(SOURCE) gives such a list."
        )
    return [
        one if isinstance(one, Question) else read_question(one, f"references, index {i}", f"references.{i}")
        for i, one in enumerate(each)
    ]


class _Mending:
    """References in folds, a model for each that was mended by the others, and one that was mended by all.

    Attributes:
        model: as it was.
        folds: the references.
        by_others: a model for each fold.
        whole: mended by all.
        before: the references along the model as it was.
        now: each fold along its own model.
        settings: by which experts' worth is told.
        flops: of all that so far.
    """

    def __init__(
        self,
        model: RoutedModel,
        folds: Sequence[Sequence[Question]],
        format: str | Format,
        loss: LossName,
        penalty: float,
        folder: Path | None,
        progress: Progress,
    ) -> None:
        self.penalty, self.folder = penalty, folder
        self.model, self.folds, self.format, self.progress = model, folds, format, progress
        self.settings = EVERYWHERE.model_copy(update={"loss": loss})
        self.by_others, self.whole, self.flops = [model] * len(folds), model, 0.0
        self.before = self.now = self._crossed(self.by_others)

    def round(self) -> dict[str, float] | None:
        """Go on by what lowers the loss of references that were left out most; None: nothing does by enough."""
        parts, together = self._rows()
        tries: list[tuple[list[RoutedModel], Answered]] = []
        sizes = [sum(map(len, self.folds))] * len(SPREADS)
        for spread in by_size(self.progress, SPREADS, "repair: spreads", sizes):
            made = [_added(one, spread * rows) for one, rows in zip(self.by_others, parts, strict=True)]
            tries.append((made, self._crossed(made)))
        found, best = judged([answers for _, answers in tries], self.folds)
        if found.loss.mean() > (1 - ENOUGH) * self.now.loss.mean():
            return None
        self.by_others, self.now = [tries[one][0][fold] for fold, one in enumerate(best)], found
        spread = SPREADS[min(range(len(tries)), key=lambda one: float(tries[one][1].loss.mean()))]
        self.whole = _added(self.whole, spread * together)
        return {"spread": spread}

    def _rows(self) -> tuple[list[Tensor], Tensor]:
        """``[L, E, H]`` for each fold what the others say along its own model, and what all say along that of all; they
        spread scores by one nat."""
        everyone = [question for fold in self.folds for question in fold]
        if self.whole is self.model:  # all models are one
            each = [self._fit(self.model, fold) for fold in self.folds]
            whole, fold = reduce(add, each), np.repeat(np.arange(len(each)), [len(one) for one in self.folds])
            kept = [torch.from_numpy(fold != f) for f in range(len(each))]
            return [self._spread(whole.without(*one)) for one in zip(each, kept, strict=True)], self._spread(whole)
        others = [[q for j, fold in enumerate(self.folds) if j != i for q in fold] for i in range(len(self.folds))]
        each = [self._fit(made, asked) for made, asked in zip(self.by_others, others, strict=True)]
        return [self._spread(fit) for fit in each], self._spread(self._fit(self.whole, everyone))

    def _spread(self, fit: _Fit) -> Tensor:
        rows = fit.reads.rows(fit.worth, self.penalty)
        return rows / fit.reads.spread(rows).clamp_min(torch.finfo(rows.dtype).tiny)

    def _fit(self, made: RoutedModel, questions: Sequence[Question]) -> _Fit:
        """What its routers read of questions, and what its experts are worth to them along its own pathways."""
        folder = self.folder if made is self.model else None  # nobody asks for a mended model's again
        worth = -taught(
            *(INTEGRATED_GRADIENT, made, questions, self.settings),
            format=self.format,
            folder=folder,
            progress=self.progress,
        )
        reads: Reads | None = None
        parts = parts_of(questions)
        for part in by_size(self.progress, parts, "repair: what routers read", map(len, parts)):
            more, flops = read(made, prefilled(self.model, part, self.format))
            reads = more if reads is None else reads + more
            self.flops += (1 + BACKWARD) * flops
        return _Fit(cast(Reads, reads), worth.cpu())

    def _crossed(self, made: Sequence[RoutedModel]) -> Answered:
        """Each fold as its model answers it."""
        found, flops = answered(self.model, zip(made, self.folds, strict=True), self.format)
        self.flops += flops
        return found


@dataclass(frozen=True, eq=False)
class _Fit:
    """N references: what routers read of them, and the worth of experts to each ``[N, L, E]``."""

    reads: Reads
    worth: Tensor

    def __add__(self, other: _Fit) -> _Fit:
        return _Fit(self.reads + other.reads, torch.cat([self.worth, other.worth]))

    def without(self, other: _Fit, kept: Tensor) -> _Fit:
        """Without another, which is all but ``kept [N]`` (bool) of this."""
        return _Fit(self.reads.without(other.reads, kept), self.worth[kept])


def _added(model: RoutedModel, rows: Tensor) -> RoutedModel:
    """The model with rows ``[L, E, H]`` added to its routers' matrices."""
    tensors: dict[str, Tensor] = {}
    for site, more in zip(model.sites, rows, strict=True):
        name, matrix = next(iter(router_tensors(model.model, site).items()))
        tensors[name] = matrix.detach() + more.to(matrix)
    return with_tensors(model, tensors)
