"""Contextual calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..answerers.base import Bench
from ..errors import SettingError
from ..tasks.formats import BLANK, Rendered
from ..types import Question
from ._calibration import Scored
from ._prior import PriorCalibration


@dataclass(frozen=True)
class Contextual(PriorCalibration):
    """Divides the choices' probabilities by those where the question's text says nothing: p / p_cf, renormalized.

    "Calibrate Before Use" (Zhao et al. 2021, arXiv 2102.09690, section 5): W = diag(p_cf)⁻¹, b = 0, where p_cf is the
    mean over content-free texts in the question's place, in the same format and with the same choices. The paper takes
    the softmax of W p, which chooses alike. No label is used, and nothing is fitted. Of a sentence with a gap, the text
    stands in the place of what comes before it.

    Attributes:
        texts: the content-free ones. One that would leave the prompt blank is left out.
    """

    texts: tuple[str, ...] = ("N/A", "[MASK]", "")
    name: ClassVar[str] = "contextual"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.texts, tuple) and self.texts and all(isinstance(text, str) for text in self.texts)):
            raise SettingError(f"Expected contextual.texts to be texts, one at least, got {self.texts!r}.")

    def instead(self, question: Question, bench: Bench) -> list[Rendered]:
        gap = BLANK.search(question.question) is not None
        texts = [f"{text} _" if gap and text.strip() else text for text in self.texts]
        rendered = [bench.format.put(replace(question, question=text), bench.model.tokenizer) for text in texts]
        return [one for one in rendered if one.prompt.strip()] or rendered

    def against(self, asked: Scored, prior: Sequence[Scored]) -> NDArray[np.float64]:
        from scipy.special import log_softmax, logsumexp

        known = log_softmax([one.scores for one in prior], axis=-1)
        corrected: NDArray[np.float64] = log_softmax(asked.scores) - logsumexp(known, axis=0)
        return corrected
