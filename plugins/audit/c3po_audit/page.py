"""An audit as a page: one sentence, a picture of layers and measures, and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from c3po_adaptive.report import draw

from .interventions import MEANINGS
from .plan import WHERE
from .plots import Measured, layers_by_measure, paired_effects
from .records import AuditSummary


def page(summary: AuditSummary, made: Mapping[str, str | None] | None = None) -> str:
    """The page as HTML, self-contained; ``made`` says by what, as ``made_by`` does."""
    everywhere = [effect for effect in summary.effects if effect.layer is None]
    bars = [(f"{e.intervention}, {e.where}", e.loss.model_dump(), e.accuracy.model_dump()) for e in everywhere]
    return draw(
        __package__,
        "audit.html.j2",
        made=made,
        model=summary.model,
        summary=summary,
        meanings=MEANINGS,
        everywhere=everywhere,
        bars=paired_effects(bars),
        heat=layers_by_measure(list(measures(summary)), [layer.layer for layer in summary.layers]),
    )


def measures(summary: AuditSummary) -> Iterator[Measured]:
    """What the picture shows of each layer: name, unit, and a value for each; None where it was not tried."""
    for name in MEANINGS:
        for where in WHERE:
            effects = [summary.effect(name, where, layer.layer) for layer in summary.layers]
            losses = [None if effect is None else effect.loss for effect in effects]
            if any(losses):
                values = [None if loss is None else loss.value for loss in losses]
                shown = [loss is not None and (loss.low > 0 or loss.high < 0) for loss in losses]
                yield Measured(f"{name}, {where}", "nats", values, shown)
    more: dict[str, tuple[str, list[float | None]]] = {
        "dearest expert banned": ("nats", [layer.ban for layer in summary.layers]),
        "load, from even": ("", [1 - layer.entropy for layer in summary.layers]),
        "experts tell kinds": (
            "",
            [None if layer.kinds is None else layer.kinds.share - layer.kinds.by_chance for layer in summary.layers],
        ),
    }
    for name, (unit, values) in more.items():
        if any(value is not None for value in values):
            yield Measured(name, unit, values, [False] * len(values))
