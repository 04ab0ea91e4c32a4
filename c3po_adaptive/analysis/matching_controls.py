"""Which arms are controls of which, as their settings say: the same arm with one thing left to chance or left out, and
what the same labels or no steps at all would do, which every arm stands beside.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..records.setting import Setting

RANDOM_NEIGHBOURS = "random neighbours"
"""What retrievers that draw say that they vary."""


def controls_of(arm: str, settings: Mapping[str, Setting]) -> list[str]:
    """The arms that an arm's gain has to be told from.

    Its own say so (``control_of``): they are alike in all but one thing that they draw at random. All arms share the
    core mixed without a step, one change for all questions, and the base with its scores corrected; but the last has
    none of the three, and the one before it the other two. Where an arm's scores are corrected, so are its controls',
    and it shares what is not corrected as well.

    Args:
        arm: its name.
        settings: of all arms that answered the same questions.
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
