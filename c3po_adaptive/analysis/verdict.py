"""What a gain allows to say, by a rule that knows nothing of what was hoped for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .controls import only_a_control

Comparison = Mapping[str, Any]
"""As of a summary: ``b, difference, ci_low, ci_high, p, p_holm, detectable``."""

SIGNIFICANT = 0.05
BEYOND = "helps beyond its controls"
ALSO = "helps, but so does "
NONE = "no evidence"
HARMS = "harms"


@dataclass(frozen=True)
class Verdict:
    """One of four, or none.

    Attributes:
        name: *helps beyond its controls*, *helps, but so does X*, *no evidence*, *harms*; None: it gains, and there is
            no control to tell why.
        because: what that rests on, in words.
    """

    name: str | None
    because: str


def verdict(gain: Comparison, beside: Sequence[Comparison], gains: Mapping[str, Comparison]) -> Verdict:
    """An arm's, on one data set or over all.

    A gain or a loss over the base is one if it may be claimed (``claimed``) and stays so after Holm's correction over
    all gains of the table. It goes beyond the controls if the arm may be claimed to be better than *each* of them: as
    all have to be beaten, that needs no correction for how many they are (an intersection-union test: Berger 1982,
    Technometrics 24:295). Of the controls that are not beaten, those that gain themselves (interval above zero, before
    any correction) do so, too; the one that gains most is named. If none of them gains, the arm's gain is there, but
    not told from chance's: no evidence.

    Args:
        gain: the arm minus the base.
        beside: the arm minus each of its controls.
        gains: each control minus the base, by its name.
    """
    found = claimed(gain)
    if not found or gain["p_holm"] >= SIGNIFICANT:
        least = f"a gain of {gain['detectable']:.1f} points would have been found with power 0.8"
        open_ = "the interval holds zero" if not found else "not after Holm's correction"
        return Verdict(NONE, f"{open_}; {least}")
    if found < 0:
        return Verdict(HARMS, f"{_points(gain)} after Holm's correction")
    if not beside:
        return Verdict(None, "it gains, and no control of it was run")
    unbeaten = [c for c in beside if claimed(c) <= 0]
    if not unbeaten:
        nearest = min(beside, key=lambda c: c["difference"])
        return Verdict(BEYOND, f"better than each of {len(beside)}, the nearest {nearest['b']} by {_points(nearest)}")
    most = max(unbeaten, key=lambda c: gains[c["b"]]["difference"])
    gaining = [c for c in unbeaten if gains[c["b"]]["ci_low"] > 0]
    if gaining:
        rival = max(gaining, key=lambda c: gains[c["b"]]["difference"])
        return Verdict(
            f"{ALSO}{rival['b']}", f"it gains {_points(gains[rival['b']])}, and is not beaten: {_points(rival)}"
        )
    return Verdict(NONE, f"it gains, but is not told from {most['b']} ({_points(most)}), which is not shown to gain")


def judged(row: Mapping[str, Any], gains: Sequence[Comparison], beside: Sequence[Comparison]) -> dict[str, Any]:
    """A row's ``verdict``, and ``because``; none of the base, of an upper bound, and of what is a control and no more.

    Args:
        row: of a summary, with its ``controls``.
        gains: of every arm on every data set.
        beside: every arm minus each of its controls, likewise.
    """
    here = {c["a"]: c for c in gains if c["dataset"] == row["dataset"]}
    if row["arm"] not in here or row["needs_label"] or only_a_control(row["setting"]):
        return {"verdict": None, "because": ""}
    own = [c for c in beside if (c["dataset"], c["a"]) == (row["dataset"], row["arm"]) and c["b"] in row["controls"]]
    found = verdict(here[row["arm"]], own, here)
    return {"verdict": found.name, "because": found.because}


def claimed(c: Comparison) -> int:
    """1 if a comparison allows to claim that ``a`` is better, -1 that it is worse, else 0: p and interval agree."""
    if c["p"] >= SIGNIFICANT:
        return 0
    return int(c["ci_low"] > 0) - int(c["ci_high"] < 0)


def _points(c: Comparison) -> str:
    return f"{c['difference']:+.1f} [{c['ci_low']:.1f}, {c['ci_high']:.1f}]"
