"""Domain-conditional pointwise mutual information."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..answerers.base import Bench
from ..errors import SettingError
from ..tasks.formats import Rendered
from ..types import Question
from ._calibration import Scored
from ._prior import PriorCalibration


@dataclass(frozen=True)
class PMI(PriorCalibration):
    """By how much the question makes an option likelier: log p(option | question) − log p(option | domain prompt).

    Domain-conditional PMI, "Surface Form Competition" (Holtzman et al. 2021, arXiv 2104.08315, eq. 1): options that
    are likely anywhere, such as short or common ones, gain nothing by it. Log-likelihoods are sums over the option's
    tokens, whatever the format divides them by. No label is used, and nothing is fitted.

    Attributes:
        domain: the prompt that stands for all questions.
    """

    domain: str = "Answer:"
    name: ClassVar[str] = "pmi"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.domain, str) or not self.domain.strip():
            raise SettingError(f"Expected pmi.domain to be a text that is not blank, got {self.domain!r}.")

    def instead(self, question: Question, bench: Bench) -> list[Rendered]:
        return [Rendered(self.domain, ())]

    def against(self, asked: Scored, prior: Sequence[Scored]) -> NDArray[np.float64]:
        return asked.sums - prior[0].sums
