"""An audit in a few lines: what ``print`` shows, and what the command tells line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .records import AuditInterval, AuditSummary, Effect, Reached


def in_words(found: AuditSummary) -> str:
    """What was tried in all layers, what was left out, and what may be said."""
    base = found.base
    lines = [
        f"Audit of {found.model} on {found.dataset}: {base.n} questions, {found.total_cost:.1f} base forwards each",
        f"  as it routes: {base.accuracy.value:.1f} % right (chance {base.chance:.1f} %), {base.loss.value:.3f} nats",
        *(f"  {name}, {where}: {points} points, {nats} nats" for name, where, points, nats, _ in trials(found)),
        *(f"  left out: {name}: {why}" for name, why in found.left_out.items()),
        f"  {found.sentence}",
    ]
    return "\n".join(lines)


def trials(found: AuditSummary) -> list[tuple[str, str, str, str, str]]:
    """Of all that was tried in more than a layer alone: name, where, accuracy in points, loss in nats, cost."""
    tried: list[tuple[str, str, Effect | Reached]]
    tried = [(e.intervention, e.where, e) for e in found.effects if e.layer is None]
    tried += [(f"oracle, rate {r.rate:g} {r.of}".strip(), r.selector, r) for r in found.reached]
    return [(name, where, _told(one.accuracy, 1), _told(one.loss, 3), f"{one.cost:.2f}") for name, where, one in tried]


def _told(found: AuditInterval, digits: int) -> str:
    return f"{found.value:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
