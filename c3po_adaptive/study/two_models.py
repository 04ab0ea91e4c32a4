"""What an arm did where routers were left wrong and where they were not, in three sentences."""

from __future__ import annotations

from ..records.summary import SIGNIFICANT, Comparison, Summary

MEANS = {
    (1, 0): "So it gains where routing is wrong; where nothing was broken, no change can be claimed.",
    (1, 1): "So it gains where routing is wrong, and where nothing was broken, too.",
    (1, -1): "So it gains where routing is wrong, and harms where nothing was broken.",
    (0, 0): "So few questions show nothing on either model: more of them (--limit) may.",
    (0, 1): "So it gains where nothing was broken; what it does where routing is wrong takes more questions (--limit).",
    (0, -1): "So it harms where nothing was broken, and is not shown to gain where routing is wrong.",
    (-1, 0): "So it harms where routing is wrong, and no change can be claimed where nothing was broken.",
    (-1, 1): "So it gains where nothing was broken, and harms where routing is wrong.",
    (-1, -1): "So it harms both.",
}
"""By what can be claimed where routers are wrong, and where they are not: a gain, nothing, a loss."""


def three_sentences(merged: Summary, shipped: Summary, arm: str, labels: int, following: str) -> list[str]:
    """What was found, what it means, and what to type next.

    Args:
        merged: a run of experts behind routers that nobody fitted.
        shipped: a run of the same behind the routers that they were trained with, on the same questions.
        labels: labeled questions that it learned from.
    """
    mended, as_it_is = (_gain(summary, arm) for summary in (merged, shipped))
    rows = {row.arm: row for row in merged.on(merged.shown_dataset)}
    before, after = rows[merged.baseline], rows[arm]
    means = MEANS[_shown(mended), _shown(as_it_is)]
    return [
        f"Found: merged by prompts the model answers {before.accuracy:.1f} % right; with {labels} labeled questions "
        f"and no training, by {arm}, {after.accuracy:.1f} %: {_points(mended)} points. "
        f"As shipped: {_points(as_it_is)}.",
        f"{means} Merged: {after.verdict}." if after.verdict else means,
        following,
    ]


def _shown(gain: Comparison) -> int:
    """A gain (1) or a loss (-1) that stands after the correction that verdicts make; else 0."""
    return gain.claimed if gain.p_holm < SIGNIFICANT else 0


def _gain(summary: Summary, arm: str) -> Comparison:
    wanted = summary.shown_dataset, arm, summary.baseline, "question"
    return next(c for c in summary.comparisons if (c.dataset, c.a, c.b, c.unit) == wanted)


def _points(gain: Comparison) -> str:
    return f"{gain.difference:+.1f} [{gain.ci_low:+.1f}, {gain.ci_high:+.1f}]"
