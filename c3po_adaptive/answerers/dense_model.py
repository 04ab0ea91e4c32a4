"""A dense model's answers: what the mixture of experts was made from, or any other with its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from ..errors import SettingError
from ..models.names import EMBEDDED, ours
from ..types import Answer, Question
from .base import Answerer, AnswererStrategy, AnsweringContext

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..remixing.strategies import Strategies


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
        from ..models.dense_models import load_dense_model, parent_of_embedded

        if self.model is None and context.model.name not in ours():
            raise SettingError(
                f"Expected dense.model, for only {EMBEDDED} has a dense model of its own, got none for "
                f"{context.model.name!r}; name one with the same tokenizer."
            )
        model, tokenizer = parent_of_embedded() if self.model is None else load_dense_model(self.model)
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
        import torch

        from ..routing.flops import measure
        from ..routing.modules import answering
        from ..routing.whole_prompts import NO_PREFIX, WholePrompts

        plain, whole = self.context.plain(questions), WholePrompts(self.model, measure(self.model, ()))
        with answering(self.model), torch.no_grad():
            return self.context.rescored(plain, questions, whole, NO_PREFIX)
