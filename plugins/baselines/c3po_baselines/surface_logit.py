"""A logit of surface features: what labels teach about the look of right options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from c3po_adaptive import SettingError
from c3po_adaptive.errors import suggestion
from c3po_adaptive.tasks import numbered

from .calibrations import ScoredQuestion
from .fitted import FOLDS, Correction, FittedCalibration

PENALTIES = np.logspace(1, -4, 11)
LEAST = 1e-3  # the score's own coefficient: its order is never turned round

_WORD = re.compile(r"\w+(?:'\w+)?")
_NEGATION = re.compile(r"\b(?:no|not|never|none|nothing|nobody|neither|nor|without|cannot)\b|n't\b", re.IGNORECASE)


def surface(asked: ScoredQuestion, names: Sequence[str]) -> NDArray[np.float64]:
    """``[C, F]`` features of each option."""
    each = [np.array(FEATURES[name](asked), np.float64) for name in names]
    return np.stack(each, axis=-1) if each else np.zeros((len(asked.scores), 0))


def _tokens(asked: ScoredQuestion) -> list[int]:
    return [len(option) for option in asked.prompt.options]


def _characters(asked: ScoredQuestion) -> list[int]:
    return [len(text) for text in asked.question.choices]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _shared(asked: ScoredQuestion) -> list[float]:
    """The share of an option's words that the question has, too."""
    known = set(_words(asked.question.question))
    each = [_words(text) for text in asked.question.choices]
    return [sum(word in known for word in words) / max(1, len(words)) for words in each]


def _found(pattern: re.Pattern[str]) -> Callable[[ScoredQuestion], list[bool]]:
    return lambda asked: [pattern.search(text) is not None for text in asked.question.choices]


FEATURES: Mapping[str, Callable[[ScoredQuestion], Sequence[float] | NDArray[np.float64]]] = {
    "sum": lambda asked: asked.sums,
    "tokens": _tokens,
    "log-tokens": lambda asked: np.log(_tokens(asked)),
    "characters": _characters,
    "words": lambda asked: [len(_words(text)) for text in asked.question.choices],
    "place": lambda asked: np.linspace(0, 1, len(asked.scores)),
    "longest": lambda asked: [n == max(_characters(asked)) for n in _characters(asked)],
    "shortest": lambda asked: [n == min(_characters(asked)) for n in _characters(asked)],
    "shared": _shared,
    "digits": _found(re.compile(r"\d")),
    "negation": _found(_NEGATION),
    "capital": lambda asked: [text[:1].isupper() for text in asked.question.choices],
}
"""Each by name: ``ScoredQuestion -> [C]``. ``sum`` is the score times what the format divides by: log-likelihood."""


@dataclass(frozen=True)
class SurfaceLogit(FittedCalibration):
    """A conditional logit of the arm's score and of each option's surface: length, place, words of the question, …

    The right choice's log-odds are linear in what differs between the options (McFadden 1974): the arm's own score,
    with a coefficient above zero that nothing shrinks, and the features, standardized, with an L2 penalty that
    cross-validation over the references chooses. So scores of any kind can be calibrated, and without features it is a
    temperature.

    Attributes:
        features: which ones, of those there are.
    """

    features: tuple[str, ...] = tuple(FEATURES)
    name: ClassVar[str] = "surface-logit"
    needs_likelihoods: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.features, tuple) or len(set(self.features)) < len(self.features):
            raise SettingError(f"Expected surface-logit.features to be names, each once, got {self.features!r}.")
        if unknown := [name for name in self.features if name not in FEATURES]:
            raise SettingError(
                f"Expected surface-logit.features as names of features, got {unknown[0]!r}; "
                + suggestion(str(unknown[0]), FEATURES, "leave it out.")
            )

    def fit(self, references: Sequence[ScoredQuestion], answers: NDArray[np.int64]) -> Correction:
        known = _Options.of(references, answers, self.features)
        parts = np.array(numbered([one.question for one in references])) % FOLDS  # repeats lie in one fold

        def unseen(penalty: float) -> float:
            """Loss of references that the fit has not seen."""
            fits = ((known.rows(parts == fold), known.rows(parts != fold).fit(penalty)) for fold in range(FOLDS))
            return sum(float(left.losses(weights).sum()) for left, weights in fits)

        best = min(PENALTIES, key=unseen)  # of equals the first, the strongest
        return Logit(self.features, tuple((known.fit(best) / known.scale).tolist()))


@dataclass(frozen=True)
class Logit:
    """The correction: the weighted sum of score and features, ``weights [1 + F]``."""

    features: tuple[str, ...]
    weights: tuple[float, ...]

    def __call__(self, asked: ScoredQuestion) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = _seen(asked, self.features) @ np.array(self.weights)
        return scores


@dataclass(frozen=True, eq=False)
class _Options:
    """Options of N questions, as a logit sees them.

    Attributes:
        x: ``[N, C, 1 + F]`` score and features, standardized; zeros where a question has fewer choices.
        there: ``[N, C]`` bool.
        answers: ``[N]`` the right ones.
        scale: ``[1 + F]`` what they were divided by.
    """

    x: NDArray[np.float64]
    there: NDArray[np.bool_]
    answers: NDArray[np.int64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, references: Sequence[ScoredQuestion], answers: NDArray[np.int64], features: Sequence[str]) -> _Options:
        """Only differences within a question matter: it is these that are standardized."""
        each = [_seen(one, features) for one in references]
        each = [values - values.mean(0) for values in each]
        scale = np.concatenate(each).std(0)
        scale[scale < 1e-9] = 1.0
        x = np.zeros((len(each), max(map(len, each)), len(scale)))
        there = np.zeros(x.shape[:2], bool)
        for row, values in enumerate(each):
            x[row, : len(values)], there[row, : len(values)] = values / scale, True
        return cls(x, there, answers, scale)

    def rows(self, kept: NDArray[np.bool_]) -> _Options:
        """Some of the questions."""
        return _Options(self.x[kept], self.there[kept], self.answers[kept], self.scale)

    def losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[N]`` negative log-likelihood of the right choice."""
        loss: NDArray[np.float64] = -self._logs(weights)[np.arange(len(self.answers)), self.answers]
        return loss

    def fit(self, penalty: float) -> NDArray[np.float64]:
        """``[1 + F]`` weights where mean loss and half the penalty times the features' squared weights are least."""
        from scipy.optimize import minimize
        from threadpoolctl import threadpool_limits

        shrunk = np.full(self.x.shape[2], penalty)
        shrunk[0] = 0.0
        right = self.x[np.arange(len(self.answers)), self.answers].mean(0)

        def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            expected = np.einsum("nc,ncf->f", np.exp(self._logs(weights)), self.x) / len(self.x)
            value = float(self.losses(weights).mean() + 0.5 * (shrunk * weights**2).sum())
            return value, expected - right + shrunk * weights

        start = np.zeros_like(shrunk)
        start[0] = 1.0
        bounds = [(LEAST, None), *[(None, None)] * (len(start) - 1)]
        options = {"ftol": 1e-12, "gtol": 1e-8, "maxiter": 1000}
        with threadpool_limits(1):  # threads take longer to meet than these products take
            found: NDArray[np.float64] = minimize(objective, start, jac=True, bounds=bounds, options=options).x
        return found

    def _logs(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[N, C]`` log-probabilities, -inf where there is no choice."""
        from scipy.special import log_softmax

        logs: NDArray[np.float64] = log_softmax(np.where(self.there, self.x @ weights, -np.inf), axis=1)
        return logs


def _seen(asked: ScoredQuestion, features: Sequence[str]) -> NDArray[np.float64]:
    """``[C, 1 + F]`` the arm's score, and the features."""
    return np.concatenate([asked.scores[:, None], surface(asked, features)], axis=1)
