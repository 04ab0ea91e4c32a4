"""What prompt tuning and prefix tuning have in common: tokens before every prompt that are no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from ..checks import check_number
from ..errors import SettingError
from ._trained import Trained

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.routed import RoutedModel
    from ..types import Prompt


@dataclass(frozen=True, kw_only=True)
class Virtual(Trained):
    """Trains what stands in the place of ``tokens`` tokens before every prompt."""

    tokens: int = 20
    lr: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "tokens", at_least=1, whole=True)

    def first_tokens(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tensor:
        """``[n]`` the first tokens of references' prompts, which virtual ones start as: text that the model knows.

        Raises:
            SettingError: there are not so many.
        """
        import torch

        ids = list(islice(chain.from_iterable(prompt.ids for prompt in prompts), self.tokens))
        if len(ids) < self.tokens:
            raise SettingError(
                f"Expected {self.name}.tokens to be at most {len(ids)}, as many as the references' prompts have "
                f"together, got {self.tokens}; take fewer."
            )
        return torch.tensor(ids, device=model.model.device)

    @staticmethod
    def wrapped(model: RoutedModel, config: Any) -> Any:
        """PEFT's model of a configuration; the model itself stays as it is."""
        from peft import get_peft_model

        from ._exchange import kept

        with kept(model.model), catch_warnings():
            simplefilter("ignore", FutureWarning)  # PEFT 0.21 asks transformers for what will be called otherwise
            return get_peft_model(model.model, config)
