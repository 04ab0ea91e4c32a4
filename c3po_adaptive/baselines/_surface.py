"""What an option looks like, whatever it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ._calibration import Scored

_WORD = re.compile(r"\w+(?:'\w+)?")
_NEGATION = re.compile(r"\b(?:no|not|never|none|nothing|nobody|neither|nor|without|cannot)\b|n't\b", re.IGNORECASE)


def surface(asked: Scored, names: Sequence[str]) -> NDArray[np.float64]:
    """``[C, F]`` features of each option."""
    each = [np.array(FEATURES[name](asked), np.float64) for name in names]
    return np.stack(each, axis=-1) if each else np.zeros((len(asked.scores), 0))


def _tokens(asked: Scored) -> list[int]:
    return [len(option) for option in asked.prompt.options]


def _characters(asked: Scored) -> list[int]:
    return [len(text) for text in asked.question.choices]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _shared(asked: Scored) -> list[float]:
    """The share of an option's words that the question has, too."""
    known = set(_words(asked.question.question))
    each = [_words(text) for text in asked.question.choices]
    return [sum(word in known for word in words) / max(1, len(words)) for words in each]


def _found(pattern: re.Pattern[str]) -> Callable[[Scored], list[bool]]:
    return lambda asked: [pattern.search(text) is not None for text in asked.question.choices]


FEATURES: Mapping[str, Callable[[Scored], Sequence[float] | NDArray[np.float64]]] = {
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
"""Each by name: ``Scored -> [C]``. ``sum`` is the score times what the format divides by: the log-likelihood."""
