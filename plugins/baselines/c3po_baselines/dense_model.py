"""A dense model's answers: what the mixture of experts was made from, or any other with its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from c3po_adaptive import Answer, Answerer, AnswererStrategy, AnsweringContext, Question, SettingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from c3po_adaptive import Strategies


@dataclass(frozen=True, kw_only=True)
class Dense(AnswererStrategy):
    """Another model's answers to the same prompts, at its own price.

    Attributes:
        model: a causal language model by Hub id or folder, with the run's tokenizer; None: the dense model that the
            embedded one is made from.
    """

    model: Annotated[str, Field(min_length=1, description="name a Hub id or a folder")] | None = None
    name: ClassVar[str] = "dense"
    likelihoods: ClassVar[bool] = True

    def prepare(self, context: AnsweringContext) -> Answerer:
        from c3po_adaptive import dense_parent, load_dense_model

        model, tokenizer = dense_parent(context.model.name) if self.model is None else load_dense_model(self.model)
        _check_tokenizer(context.model.tokenizer, tokenizer, self.model or "the embedded model's parent")
        return _OtherModel(context, model)

    def learns(self, strategies: Strategies) -> bool:
        return False

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ()


def _check_tokenizer(ours: Any, theirs: Any, name: str) -> None:
    """Refuse one that gives other tokens.

    Raises:
        SettingError: it does.
    """
    probe = "Which object can float on water?\nAnswer: a wooden boat (B), 12.5 %"
    if ours.get_vocab() != theirs.get_vocab() or ours(probe)["input_ids"] != theirs(probe)["input_ids"]:
        raise SettingError(
            f"Expected dense.model to have the run's tokenizer, got {name} with another ({len(theirs)} tokens, the "
            f"run's has {len(ours)}): the same prompts would be others; name a model with the same one."
        )


@dataclass(frozen=True, eq=False)
class _OtherModel:
    """Answers with a dense model in the place of the context's own."""

    context: AnsweringContext
    model: PreTrainedModel
    needs_label: ClassVar[bool] = False

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of the other model."""
        from c3po_adaptive import WholePrompts

        return self.context.rescored(self.context.plain(questions), questions, WholePrompts.of_dense(self.model))
