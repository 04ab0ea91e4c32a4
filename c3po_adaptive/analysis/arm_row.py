"""An arm's row in a summary: what it reached on one data set, or over all, and what that took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from ..records.answer import Answered
from ..records.setting import Setting, common
from ..records.summary import Comparison, Role, Row, RowCost
from . import statistics as stats
from .calibration import calibration_change, calibration_error


def row(
    dataset: str, own: Sequence[Answered], base: Sequence[Answered], gain: Comparison, seed: int, **known: Any
) -> Row:
    """Without its verdict, which takes the whole table.

    Args:
        dataset: its name, or "all".
        own: records of the arm.
        base: of the arm that gains are measured against, on the same questions.
        gain: the one minus the other, with the difference of their log-likelihoods.
        seed: of the bootstrap.
        known: other fields: what the configuration and the table say of it.
    """
    itself = gain.a == gain.b  # base minus itself is zero, not an estimate
    calibration = calibration_change(own, base, seed=seed)
    first = own[0].setting
    return Row(
        dataset=dataset,
        split="+".join(sorted({r.split for r in own})),
        arm=gain.a,
        role=_role(own[0], gain),
        optimizer=first.by,
        selector="" if first.selector is None else first.selector.name,
        needs_label=own[0].needs_label,
        setting=common(r.setting for r in own),
        chance=100 * stats.mean(own, stats.chance),
        base_accuracy=100 * stats.mean(base, stats.is_correct),
        accuracy=100 * stats.mean(own, stats.is_correct),
        gain=gain.difference,
        ci_low=0.0 if itself else gain.ci_low,
        ci_high=0.0 if itself else gain.ci_high,
        detectable=None if itself else gain.detectable,
        nll=stats.mean(own, stats.gold_nll),
        nll_difference=gain.nll_difference or 0.0,
        nll_ci_low=gain.nll_ci_low or 0.0,
        nll_ci_high=gain.nll_ci_high or 0.0,
        calibration_error=calibration_error(own),
        calibration_difference=calibration.value,
        calibration_ci_low=calibration.low,
        calibration_ci_high=calibration.high,
        layers=stats.mean(own, lambda r: len(r.layers)),
        cost=RowCost(
            **{name: stats.mean(own, attrgetter(f"cost.{name}")) for name in RowCost.model_fields if name != "once"},
            once=_known(own, "once"),
        ),
        moved=_known(own, "moved"),
        neighbours_used=_known(own, "neighbours_used"),
        labels=_known(own, "labels"),
        parameters=_known(own, "parameters"),
        **{name: getattr(gain, name) for name in ("n", "draws", "flips_up", "flips_down")},
        **known,
    )


def _role(record: Answered, gain: Comparison) -> Role:
    if gain.a == gain.b:
        return "base"
    if record.setting.only_a_control:
        return "control"
    return "oracle" if record.needs_label else "method"


def _known(records: Sequence[Answered], field: str) -> float | None:
    """Its mean; None if a record does not say."""
    if any(getattr(r, field) is None for r in records):
        return None
    return stats.mean(records, attrgetter(field))


def settings_of(arms: Mapping[str, Sequence[Answered]]) -> dict[str, Setting]:
    """What each arm's records have in common of its settings."""
    return {arm: common(r.setting for r in own) for arm, own in arms.items()}
