"""What a gain allows to say, by a rule that knows nothing of what was hoped for; comparisons of one table are corrected
for their number, but those that were named beforehand, which are tested alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..records.setting import Setting
from ..records.summary import SIGNIFICANT, Comparison, Row, Unit
from .chance import AboveChance
from .matching_controls import lacking
from .power import detectable
from .statistics import holm

BEYOND = "helps beyond its controls"
ALSO = "helps, but so does "
NONE = "no evidence"
UNTELLABLE = "cannot tell"
HARMS = "harms"
UNTOLD = "it gains, and no control of it was run"

Named = Collection[tuple[str, frozenset[str], Unit]]
"""Primary comparisons: data set, the two arms in either order, unit."""


def named_beforehand(groups: Mapping[str, object], primary: Iterable[tuple[str, str, Unit]]) -> Named:
    """Primary comparisons on the one data set, or on "all" of several: one test each, and not one for each data set."""
    where = "all" if len(groups) > 1 else next(iter(groups))
    return {(where, frozenset((a, b)), unit) for a, b, unit in primary}


def corrected(comparisons: Sequence[Comparison], primary: Named = ()) -> list[Comparison]:
    """With ``p_holm`` and ``detectable`` after Holm's correction over those that are not primary."""
    alone = [(c.dataset, frozenset((c.a, c.b)), c.unit) in primary for c in comparisons]
    others = [c.p for c, named in zip(comparisons, alone, strict=True) if not named]
    adjusted = iter(holm(others))
    return [
        _tested(c, c.p if named else next(adjusted), 1 if named else len(others), primary=named)
        for c, named in zip(comparisons, alone, strict=True)
    ]


def _tested(c: Comparison, p: float, comparisons: int, *, primary: bool) -> Comparison:
    found = 100 * detectable(c.error / 100, c.n, comparisons, c.freedom)
    return c.model_copy(update={"p_holm": p, "detectable": found, "primary": primary})


@dataclass(frozen=True)
class Verdict:
    """One of five, or none.

    Attributes:
        name: *helps beyond its controls*, *helps, but so does X*, *no evidence*, *cannot tell*, *harms*; None: it
            gains, and no control, none of chance, or not each that would decide, was run that would tell why.
        because: what that rests on, in words.
    """

    name: str | None
    because: str


def verdict(
    gain: Comparison,
    beside: Sequence[Comparison],
    gains: Mapping[str, Comparison],
    p_beyond: float,
    chance: Collection[str],
    lacks: Sequence[str] = (),
    room: float = 100.0,
) -> Verdict:
    """An arm's, on one data set or over all.

    A gain or a loss over the base is one if it may be claimed (``Comparison.claimed``) and stays so after Holm's
    correction over all gains of the table, of which a primary one needs none. It goes beyond the controls if the arm
    may be claimed to be better than *each* of them. As all have to be beaten, the test's p is the largest of theirs,
    whatever their number (an intersection-union test: Berger 1982, Technometrics 24:295), and that, too, has to stay
    below 0.05 after Holm's correction, over all arms and data sets of the table (``_beyond``) but those whose
    comparisons with controls are all primary. Of controls that are not beaten, those that gain
    themselves (interval above zero, before any correction) help, too; the one that gains most is named. If none of them
    gains, the arm's gain is there, but not told from chance's: no evidence. Nor is it said to go beyond its controls
    where none of them leaves something of the arm to chance, or where one that would decide on it was not run.

    Args:
        gain: the arm minus the base.
        beside: the arm minus each of its controls.
        gains: each control minus the base, by its name.
        p_beyond: the largest p of ``beside``, after Holm's correction.
        chance: names of the controls that leave something to chance.
        lacks: what would decide, and no control has (``matching_controls.lacking``).
        room: points that the base leaves to be gained.
    """
    found = gain.claimed
    if not found:
        least = f"a gain of {gain.detectable:.1f} points would have been found {_how(gain)}, with power 0.8"
        least = least if gain.detectable < 100 and gain.detectable <= room else "so few questions show none"
        holds = gain.ci_low <= 0 <= gain.ci_high
        why = "the interval holds zero" if holds else f"p = {gain.p:.2g}"
        return Verdict(NONE, f"{why}; {least}")
    if gain.p_holm >= SIGNIFICANT:
        return Verdict(NONE, f"not after Holm's correction, p = {gain.p_holm:.2g}")
    if found < 0:
        return Verdict(HARMS, f"{_points(gain)} {_how(gain)}")
    if not beside:
        return Verdict(None, UNTOLD)
    nearest = max(beside, key=lambda c: (c.p, -c.difference))
    unbeaten = [c for c in beside if c.claimed <= 0]
    if not unbeaten and p_beyond < SIGNIFICANT:
        if not any(c.b in chance for c in beside):
            return Verdict(None, f"better than each of {len(beside)} controls, but none leaves anything to chance")
        if lacks:
            return Verdict(None, f"better than each of {len(beside)} controls, but none has {' or '.join(lacks)}")
        return Verdict(BEYOND, f"better than each of {len(beside)}, of which the nearest is {_named(nearest)}")
    after = "" if unbeaten else " after Holm's correction"
    unbeaten = unbeaten or [nearest]  # the claim that Holm takes back
    gaining = [c for c in unbeaten if gains[c.b].ci_low > 0]
    if gaining:
        rival = max(gaining, key=lambda c: gains[c.b].difference)
        own = _points(gains[rival.b])
        return Verdict(f"{ALSO}{rival.b}", f"that gains {own}, and is not beaten{after}: {_points(rival)}")
    most = max(unbeaten, key=lambda c: gains[c.b].difference)
    return Verdict(NONE, f"it gains, but is not told{after} from {_named(most)}, which is not shown to gain")


def why_untellable(base: AboveChance, gains: Sequence[Comparison], positive: Collection[str]) -> list[str]:
    """Why a null result says nothing of a method, on one data set or over all; [] where it does say something.

    What permuted routers cost is no reason: where they are wrong already it is nothing, and there re-mixing wins most.

    Args:
        base: the model's own answers.
        gains: of all arms over the base.
        positive: names of the arms that are known to gain where labels can be learned from.
    """
    controls = [gain for gain in gains if gain.a in positive]
    why = [] if base.shown else [f"base ({base.accuracy:.1f} %) is not above chance ({base.chance:.1f} %)"]
    if controls and not any(gain.claimed > 0 for gain in controls):
        why.append(f"no positive control gains ({', '.join(gain.a for gain in controls)})")
    return why


def judge(
    rows: Sequence[Row],
    gains: Sequence[Comparison],
    beside: Sequence[Comparison],
    untellable: Mapping[str, Sequence[str]],
) -> list[Row]:
    """Rows with ``verdict``, ``because``, ``p_beyond`` and what was ``detectable``; of the base, of an upper bound, and
    of what is a control and no more, there is no verdict.

    Args:
        rows: of a summary, each with its ``controls``.
        gains: of every arm on every data set.
        beside: every arm minus each of its controls, on every data set.
        untellable: why nothing can be told of a null result, by data set.
    """
    of = {(c.dataset, c.a): c for c in gains}
    over_questions = [one for one in beside if one.unit == "question"]
    against = {(c.dataset, c.a, c.b): c for one in over_questions for c in (one.mirrored, one)}
    own = [[c for x in row.controls if (c := against.get((row.dataset, row.arm, x)))] for row in rows]
    settings = {row.dataset: {r.arm: r.setting for r in rows if r.dataset == row.dataset} for row in rows}
    return [
        _judged(row, of, each, p, settings[row.dataset], untellable.get(row.dataset, ()))
        for row, each, p in zip(rows, own, _beyond(own), strict=True)
    ]


def _beyond(own: Sequence[Sequence[Comparison]]) -> list[float | None]:
    """The largest p of each arm's comparisons with its controls, after Holm where not all of them are primary."""
    largest = [max((c.p for c in each), default=None) for each in own]
    alone = [all(c.primary for c in each) for each in own]
    adjusted = iter(holm([p for p, named in zip(largest, alone, strict=True) if p is not None and not named]))
    return [p if p is None or named else next(adjusted) for p, named in zip(largest, alone, strict=True)]


def _judged(
    row: Row,
    of: Mapping[tuple[str, str], Comparison],
    beside: Sequence[Comparison],
    p: float | None,
    settings: Mapping[str, Setting],
    why: Sequence[str],
) -> Row:
    """``why`` nothing could have been found: then that nothing was is no evidence of anything."""
    gain, found = of.get((row.dataset, row.arm)), Verdict(None, "")
    if gain is not None and not row.needs_label and not row.setting.only_a_control:
        gains = {name: c for (dataset, name), c in of.items() if dataset == row.dataset}
        chance = {name for name, setting in settings.items() if setting.varies}
        lacks = lacking(row.arm, row.controls, settings)
        room = 100 - row.base_accuracy
        found = verdict(gain, beside, gains, 1.0 if p is None else p, chance, lacks, room)
    if found.name == NONE and why:
        found = Verdict(UNTELLABLE, f"{'; '.join(why)}; {found.because}")
    least = None if gain is None else gain.detectable
    return row.model_copy(update={"p_beyond": p, "verdict": found.name, "because": found.because, "detectable": least})


def _how(gain: Comparison) -> str:
    """What its test corrects for."""
    return "tested alone" if gain.primary else "after Holm's correction"


def _named(c: Comparison) -> str:
    return f"{c.b} ({_points(c)})"


def _points(c: Comparison) -> str:
    return f"{c.difference:+.1f} [{c.ci_low:.1f}, {c.ci_high:.1f}]"
