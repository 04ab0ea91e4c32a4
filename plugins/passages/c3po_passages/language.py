"""Whether passages are in the language of the questions, as far as script and embedder can tell."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from c3po_adaptive import Embedder

SOME = 64  # texts of either that are looked at
FEWEST = 16  # texts of either by which an embedder is judged
JAPANESE = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK"}
"""Letters that one text mixes: kana among kanji, which Unicode names CJK."""


def strangers(questions: Sequence[str], passages: Sequence[str], embedder: Embedder) -> str:
    """What seems wrong with the passages, or "".

    Another script is seen by the letters. A language that the embedder does not know is seen by this: letters shuffled
    within words take nothing from how near the nearest passage is (mean over questions, two standard errors). One that
    it knows well passes, and so does one that shares most words with the questions'.
    """
    asked, told = (_some(texts) for texts in (questions, passages))
    scripts = [_script(texts) for texts in (asked, told)]
    if "" not in scripts and scripts[0] != scripts[1]:
        return (
            f"Expected passages in the questions' script, {scripts[0]}, got mostly {scripts[1]}; the embedder finds "
            "little by them: give passages in the questions' language."
        )
    if min(len(asked), len(told)) < FEWEST:
        return ""
    vectors = embedder.encode(asked)
    near, shuffled = (
        (vectors @ embedder.encode(texts).T).max(1) for texts in (told, [_shuffled(text) for text in told])
    )
    gain = near - shuffled
    if gain.mean() > 2 * gain.std() / len(gain) ** 0.5:
        return ""
    return (
        f"Expected passages that the embedder {embedder.name!r} understands, got some no nearer to the questions "
        f"({near.mean():.2f}) than with their letters shuffled ({shuffled.mean():.2f}); are they in another language? "
        "Give passages in the questions' language, or an embedder that knows both."
    )


def _some(texts: Sequence[str]) -> list[str]:
    """Spread over all of them."""
    return list(texts[:: -(-len(texts) // SOME)]) if texts else []


def _script(texts: Sequence[str]) -> str:
    """That of most letters, as Unicode names it: LATIN, CYRILLIC, CJK, …; "" where there are none."""
    names = (unicodedata.name(letter, "") for text in texts for letter in text if letter.isalpha())
    counted = Counter(JAPANESE.get(script, script) for script in (name.split()[0] for name in names if name))
    return counted.most_common(1)[0][0] if counted else ""


def _shuffled(text: str) -> str:
    draw = random.Random(text)
    return " ".join("".join(draw.sample(word, len(word))) for word in text.split())
