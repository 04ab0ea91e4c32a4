"""One change for each kind of question, which is told: the answerer ``told-kind``.

What a choice by nearness has to beat where it finds nothing but the kind: the arm's optimizer, one change for all that
it is asked, learns from the references of the question's own kind alone (``Question.subject``).

Try it: ``c3po study run studies/merged/arms.yaml …``, arm ``one a kind, told``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from c3po_adaptive import (
    Answer,
    Answerer,
    AnswererStrategy,
    AnsweringContext,
    Question,
    RemixSettings,
    SettingError,
    Strategies,
    default_registry,
    hookimpl,
)


def _remix() -> AnswererStrategy:
    made: AnswererStrategy = default_registry().create("answerer", "remix")
    return made


@dataclass(frozen=True)
class ToldKind(AnswererStrategy):
    """Answers a question as the arm does for which references of other kinds teach nothing.

    The optimizer has to be one that needs no neighbours, such as ``constant-integrated-step``: of neighbours some would
    be of other kinds. A question's kind is its ``subject``; what all kinds together take is counted once.
    """

    name: ClassVar[str] = "told-kind"
    likelihoods: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def prepare(self, context: AnsweringContext) -> Answerer:
        references = context.references_for(self.name)
        kinds: dict[str, set[str]] = {}
        for question in references.questions:
            kinds.setdefault(question.subject, set()).add(question.id)
        if len(kinds) > 1:
            _refuse(context.strategies)
        known = frozenset(question.id for question in references.questions)
        whole = replace(context, build_references=lambda: references)
        return _ByKind(
            {
                kind: _remix().prepare(replace(whole, held_out=context.held_out | (known - own)))
                for kind, own in kinds.items()
            }
        )

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        _refuse(strategies)
        _remix().fits(strategies, layers, experts, references)

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ("optimizer", "selector", *RemixSettings.model_fields)


def _refuse(strategies: Strategies) -> None:
    if strategies.needs_neighbours:
        raise SettingError(
            f"Expected told-kind with strategies that need no neighbours, got {strategies.optimizer.name} with "
            f"{strategies.selector.name}; take constant-integrated-step in fixed layers, say."
        )


@dataclass(frozen=True, eq=False)
class _ByKind:
    """An answerer for each kind."""

    answerers: Mapping[str, Answerer]
    needs_label: bool = field(default=False, init=False)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question.

        Raises:
            SettingError: one is of a kind that no reference is of.
        """
        rows: dict[str, list[int]] = {}
        for row, question in enumerate(questions):
            if question.subject not in self.answerers:
                raise SettingError(
                    f"told-kind expected references of each question's kind, got none of {question.subject!r} for "
                    f"{question.id!r}; name some in the data set, or leave that kind out."
                )
            rows.setdefault(question.subject, []).append(row)
        found: dict[int, Answer] = {}
        for kind, of_kind in rows.items():
            found |= dict(zip(of_kind, self.answerers[kind].answer([questions[row] for row in of_kind]), strict=True))
        return [found[row] for row in range(len(questions))]


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [ToldKind]
