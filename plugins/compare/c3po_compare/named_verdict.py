"""What a protocol's comparisons allow to say: Holm's correction of each family, a verdict, a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from c3po_adaptive.analysis import detectable, holm

from .records import Compared

SCALES = {"correct": (100, 1, "points"), "loss": (1, -1, "nats"), "cost": (1, -1, "base forwards")}
"""Of each measure: its unit over that of its values, whether more is better (1, -1), and the unit's name."""
UNTESTED = "not tested"


def judged(found: Sequence[Compared], alpha: float) -> list[Compared]:
    """With Holm's p over its family, what could have been found, verdict and sentence; a primary one is alone."""
    families: dict[str | None, list[int]] = {}
    for place, one in enumerate(found):
        families.setdefault(one.family, []).append(place)
    told = list(found)
    for family, places in families.items():
        p = [found[place].p for place in places]
        adjusted, tests = (p, 1) if family is None else (holm(p), len(p))
        for place, p_holm in zip(places, adjusted, strict=True):
            told[place] = _judged(found[place], p_holm, tests, alpha)
    return told


def _judged(one: Compared, p: float, tests: int, alpha: float) -> Compared:
    least = None
    if one.measure == "correct" and one.test == "superiority":
        least = 100 * detectable(one.error / 100, one.n, tests, one.freedom)
    verdict = _verdict(one, p, alpha)
    said = {"verdict": verdict, "sentence": _sentence(one, verdict)}
    return one.model_copy(update={"p_holm": p, "detectable": least} | said)


def _verdict(one: Compared, p: float, alpha: float) -> str:
    """By p and, of a difference, by its interval, too."""
    if one.family is None and not one.primary:
        return UNTESTED
    if one.test != "superiority":
        shown = "equivalent" if one.test == "equivalence" else "not worse"
        return shown if p < alpha else "not shown"
    low, high = sorted(SCALES[one.measure][1] * end for end in (one.ci_low, one.ci_high))
    least = one.least or 0.0
    for word, nearest in (("better", low), ("worse", -high)):
        if p < alpha and nearest > 0:
            return f"{word} by {least:g} or more" if 0 < least <= nearest else word
    return f"not shown, less than {least:g}" if max(-low, high) < least else "not shown"


def _sentence(one: Compared, verdict: str) -> str:
    """At most two numbers: the difference and half its interval, or the bounds."""
    unit, digits = SCALES[one.measure][2], 1 if one.measure == "correct" else 3
    within, half = f"{one.within or 0:g} {unit}", f"± {(one.ci_high - one.ci_low) / 2:.{digits}f} {unit}"
    size, signed = f"{abs(one.difference):.{digits}f}", f"{one.difference:+.{digits}f}".replace("-", "−")
    claim, told = {
        "superiority": (f"that {one.a} differs from {one.b}", f": {signed} {half}"),
        "equivalence": (f"that {one.a} is equivalent to {one.b} within ±{within}", ""),
        "noninferiority": (f"that {one.a} is not worse than {one.b} by {within} or more", ""),
    }[one.test]
    known = {"better": f"{one.a} beats {one.b}", "worse": f"{one.a} falls behind {one.b}"}
    if (word := verdict.partition(" ")[0]) in known:
        return f"On {one.on}: {known[word]} by {size} {half}."
    status = "not tested" if verdict == UNTESTED else "not shown" if verdict.startswith("not shown") else "shown"
    return f"On {one.on}: {claim} is {status}{told}."
