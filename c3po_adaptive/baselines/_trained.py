"""What baselines that are trained on references have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from ..answerers.base import Answerer, AnswererStrategy, Bench
from ..checks import check_number
from ..errors import SettingError
from ._references import check_count

if TYPE_CHECKING:
    from ..models.routed import RoutedModel
    from ..remixing.strategies import Strategies
    from ..types import Prompt
    from ._tuning import Tuning


@dataclass(frozen=True, kw_only=True)
class Trained(AnswererStrategy):
    """Learns from all labeled references but a fifth, which is held back; a subclass says what is trained.

    AdamW without weight decay lowers the loss that the settings say. It stops when ``patience`` epochs have not lowered
    the held-back references' loss, keeps the best epoch, and where that is no better than the model as it was, the
    model as it was: then all answers are plain ones. What is learned is kept beside the reference set.

    ``Answer.once`` counts every forward pass in full, and every backward pass as one more product with each weight that
    gradients pass, two with each attention product, and one with each weight that is trained. References' own
    pathways, which the set holds, are not needed and not counted.

    Attributes:
        epochs: passes over the references, at most.
        lr: learning rate.
        batch: references a step.
        patience: epochs without progress after which it stops.
    """

    epochs: int = 4
    lr: float = 1e-3
    batch: int = 8
    patience: int = 1
    uses_peft: ClassVar[bool] = True
    likelihoods: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number(self, "epochs", at_least=1, whole=True)
        check_number(self, "lr", above=0)
        check_number(self, "batch", at_least=1, whole=True)
        check_number(self, "patience", at_least=1, whole=True)

    @abstractmethod
    def tuning(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tuning:
        """What is trained, as it is before it is; torch's global generator may be drawn from.

        Raises:
            SettingError: a parameter that does not fit the model.
            ModelError: the model's family has nothing of the kind.
        """

    def prepare(self, bench: Bench) -> Answerer:
        from ._training import tuned

        self._check_peft()
        return tuned(self, bench)

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        self._check_peft()
        check_count(self.name, references)

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ("loss", "labels", "seed")

    def _check_peft(self) -> None:
        if self.uses_peft and find_spec("peft") is None:
            raise SettingError(
                f"{self.name} expected the package peft, which is not installed: pip install 'c3po_adaptive[tuning]'."
            )
