"""A control that is drawn, drawn many times: where an arm stands among its draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..records.answer import Answered
from ..records.summary import AmongDraws
from . import statistics as stats

FEWEST = 99
"""Draws that a p takes: among fewer the least that there can be is above 0.02."""
TIE = 1e-9  # points: equal gains are summed from other data sets' parts, and so rounded otherwise


def among_draws(
    dataset: str, own: Sequence[Answered], control: Sequence[Answered], base: Sequence[Answered]
) -> AmongDraws | None:
    """An arm's gain among those of a control's draws, all on the same questions.

    All questions of a data set learn from the same references, so that one draw of these moves every answer together,
    and an interval over questions says nothing of the next draw. ``p`` is two-sided: twice the share of draws, the arm
    counted as one, that gain at least as much, or at most as much if these are fewer (Phipson and Smyth 2010, Stat.
    Appl. Genet. Mol. Biol. 9:39). Fewer than 99 draws have none.

    Args:
        control: of the control, in several draws.

    Returns:
        None for a control that was drawn once.

    Raises:
        DataError: the arms did not answer the same questions.
    """
    gains = np.array(stats.gains_of_draws(control, base))
    if len(gains) < 2:
        return None
    gain = float(np.mean(stats.gains_of_draws(own, base)))
    beyond = min(int((gains > gain - TIE).sum()), int((gains < gain + TIE).sum()))
    return AmongDraws(
        dataset=dataset,
        arm=own[0].arm,
        control=control[0].arm,
        draws=len(gains),
        gain=gain,
        mean=float(gains.mean()),
        sd=float(gains.std(ddof=1)),
        lowest=float(gains.min()),
        highest=float(gains.max()),
        p=min(1.0, 2 * (1 + beyond) / (1 + len(gains))) if len(gains) >= FEWEST else None,
    )
