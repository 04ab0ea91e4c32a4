"""Which arms are controls of which, as their settings say: the same arm with one thing left to chance or left out, and
what the same labels or no steps at all would do, which every arm stands beside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..records.setting import Setting

RANDOM_NEIGHBOURS = "random neighbours"
"""What retrievers that draw say that they vary."""
RANDOM_LAYERS = "random layers"
"""What selectors that draw say."""
ONE_FOR_ALL = "one change for all questions"
"""What is the same for every question."""
_DECLARED = {
    RANDOM_NEIGHBOURS: "have its retriever say how many it takes (k), of more references than those",
    RANDOM_LAYERS: "have its selector say how many layers it takes (n)",
    ONE_FOR_ALL: "have its optimizer say what takes its steps once for all (one_for_all)",
}
"""What an arm lacks without which it gets no such control."""


def controls_of(arm: str, settings: Mapping[str, Setting]) -> list[str]:
    """The arms that an arm's gain has to be told from.

    Its own say so (``control_of``): they are alike in all but one thing that they draw at random. All arms share the
    core mixed without a step, one change for all questions, and the base with its scores corrected; but the last has
    none of the three, and the one before it the other two. Where an arm's scores are corrected, so are its controls',
    and it shares what is not corrected as well.
    """
    own = settings[arm]
    if own.only_a_control or own.plain:
        return []
    others = {name: setting for name, setting in settings.items() if name != arm}
    return [name for name, other in others.items() if arm in other.control_of or _shared(own, other)]


def _shared(own: Setting, other: Setting) -> bool:
    if other.varies or own.calibrated_base:
        return False
    if other.calibrates and other.answerer != own.answerer:
        return other.calibrated_base
    alike = own.changes == "same" and own.calibrates == other.calibrates
    return other.no_step or other.calibrated_base or (other.changes == "same" and not alike)


def lacking(arm: str, controls: Collection[str], settings: Mapping[str, Setting]) -> list[str]:
    """What would decide on a gain of an arm that re-mixes, and none of its controls has: random neighbours of one that
    looks at some, random layers of one that chooses some, and of one that takes steps one change for all questions.

    The last is shared by all arms; where an optimizer does not say what takes its steps once (``one_for_all``), nobody
    knows whose steps those are, and a control has to say that it is this arm's.

    Args:
        controls: names of those that it has.
    """
    own, others = settings[arm], [settings[name] for name in controls]
    if own.answerer is not None or own.only_a_control or own.plain:
        return []
    same = [other for other in others if other.changes == "same" and (own.one_for_all or arm in other.control_of)]
    drawn = {words for other in others for words in other.varies}
    found = {
        RANDOM_NEIGHBOURS: own.retriever is None or RANDOM_NEIGHBOURS in drawn,
        RANDOM_LAYERS: not own.chooses_layers or RANDOM_LAYERS in drawn,
        ONE_FOR_ALL: own.one_for_all == "" or own.changes != "each" or bool(same),
    }
    return [words for words, there in found.items() if not there]


def lacking_in_words(lacks: Mapping[str, Sequence[str]]) -> list[str]:
    """What it means that arms lack something, and what to do: a sentence for all that lack the same."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for arm, words in lacks.items():
        alike.setdefault(tuple(words), []).append(arm)
    return [
        f"Lacking: {' and '.join(arms)} {'has' if len(arms) == 1 else 'have'} no control with {' or '.join(words)}, so "
        f"no gain of {'it is' if len(arms) == 1 else 'them is'} said to go beyond its controls; "
        f"{', and '.join(_DECLARED[each] for each in words)}, or write an arm with control_of: [{arms[0]}]."
        for words, arms in alike.items()
        if words
    ]
