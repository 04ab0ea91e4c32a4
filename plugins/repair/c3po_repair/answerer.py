"""Answers of the model with its routers mended, as an arm of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from c3po_adaptive import (
    Answer,
    Answerer,
    AnswererStrategy,
    AnsweringContext,
    Question,
    SettingError,
    Strategies,
    bar,
)

from .limits import FEWEST, PENALTY, ROUNDS

if TYPE_CHECKING:
    from c3po_adaptive import RoutedModel

ROUTER, FLOPS = "router.", "flops"
"""How what is kept of a repair is called."""


@dataclass(frozen=True, kw_only=True)
class Repaired(AnswererStrategy):
    """The routers mended by the references in closed form, the same for all questions: ``c3po repair`` as an arm.

    Where that is not shown to help on references that it did not learn from, the model as it was.

    Attributes:
        penalty: of the ridge, over the mean of the diagonal.
        rounds: at most so many times the routers are regressed along what was mended before.
    """

    penalty: PositiveFloat = PENALTY
    rounds: PositiveInt = ROUNDS
    name: ClassVar[str] = "repaired"
    likelihoods: ClassVar[bool] = True

    def prepare(self, context: AnsweringContext) -> Answerer:
        from c3po_adaptive import with_tensors

        from .mend import repair

        found = context.learned_once(self, lambda: self._learned(context), repair)
        mended = {name.removeprefix(ROUTER): tensor for name, tensor in found.items() if name.startswith(ROUTER)}
        return _Mended(context, with_tensors(context.model, mended) if mended else None, found[FLOPS].item())

    def _learned(self, context: AnsweringContext) -> Mapping[str, Tensor]:
        """The mended routers, if they help, and what finding them took."""
        from c3po_adaptive import router_tensors

        from .mend import repair

        references = context.references_for(self.name).labeled_by(context.settings)
        _check(len(references))
        found = repair(
            context.model,
            references.questions,
            format=context.format,
            loss=context.settings.loss,
            penalty=self.penalty,
            rounds=self.rounds,
            seed=context.settings.seed,
            folder=references.artifacts_folder,
            progress=bar,
        )
        routers = [router_tensors(found.model.model, site) for site in found.model.sites] if found.helps else []
        mended = {ROUTER + name: tensor.detach() for site in routers for name, tensor in site.items()}
        return {FLOPS: torch.tensor(found.flops, dtype=torch.float64), **mended}

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        _check(references)

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ("loss", "labels", "seed")


def _check(references: int) -> None:
    if references < FEWEST:
        raise SettingError(
            f"repaired expected at least {FEWEST} references, got {references}; name more in the data set."
        )


@dataclass(frozen=True, eq=False)
class _Mended:
    """Answers of the mended model, at the price of plain ones.

    Attributes:
        context: of the questions.
        model: the mended one, if it helps.
        flops: what mending took.
    """

    context: AnsweringContext
    model: RoutedModel | None
    flops: float
    needs_label: bool = field(default=False, init=False)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        plain = [replace(answer, setup_flops=self.flops) for answer in self.context.plain(questions)]
        if self.model is None:
            return plain
        mended = replace(self.context, model=self.model).plain(questions)
        return [
            replace(base, choice=answer.choice, scores=answer.scores, ledger=answer.ledger)
            for base, answer in zip(plain, mended, strict=True)
        ]
