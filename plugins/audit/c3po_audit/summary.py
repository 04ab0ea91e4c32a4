"""From rows to a summary, and to the one sentence that it allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from c3po_adaptive import RoutedModel, above_chance, bootstrap_interval, over_flips
from c3po_adaptive.study import ScoredAnswer, versions

from .expected_gain import answered, expected_gain, in_words
from .interventions import PERMUTED
from .measure import PLAIN
from .plan import FEW, NGD, AuditPlan, LabelDescent, Trial
from .records import AuditInterval, AuditRow, AuditSummary, Ban, Base, Effect, Fragile, LayerUse, Reached
from .use import evenness, loads, shared_with_kinds

Floats = NDArray[Any]
SHOWN_BANS, SHOWN_TOKENS = 10, 10
"""Of experts and of fragile tokens, the first ones."""


def summarize(
    rows: Sequence[AuditRow], model: RoutedModel, plan: AuditPlan, hashes: Mapping[str, str], *, dataset: str, seed: int
) -> AuditSummary:
    """The summary of an audit's rows."""
    base = _base(rows, seed)
    effects = [_effect(rows, trial, model, seed) for trial in plan.trials]
    reached = [_reached(rows, descent, seed) for descent in plan.descents]
    kinds = sorted({row.kind for row in rows})
    layers = _layers(rows, model, kinds, seed)
    foretold = None if rows[0].foretold is None else expected_gain(rows, model.layers, seed)
    permuted = next((e for e in effects if (e.intervention, e.layer) == (PERMUTED, None)), None)
    return AuditSummary(
        sentence=("" if foretold is None else f"{in_words(foretold)}. ")
        + f"{leverage_in_words(permuted)}; {_headroom(reached)}; {_chance(base)}.",
        model=model.name,
        dataset=dataset,
        seed=seed,
        deep=plan.exact,
        experts=model.n_experts,
        top_k=max(site.top_k for site in model.sites),
        kinds=kinds,
        base=base,
        expected_gain=foretold,
        effects=effects,
        reached=reached,
        layers=layers,
        bans=_bans(rows, model, seed) if plan.bans else [],
        bans_exact=plan.exact,
        fragile=_fragile(rows, model) if PERMUTED not in plan.left_out else None,
        left_out=dict(plan.left_out),
        cost={part: _mean([row.cost[part] for row in rows]) for part in rows[0].cost},
        seconds=sum(row.seconds for row in rows),
        hashes=dict(hashes),
        versions=versions(),
    )


def _answered(rows: Sequence[AuditRow], scores_of: Callable[[AuditRow], list[float]]) -> Floats:
    """``[2, N]`` whether each question is answered right by its scores, and the loss of its right answer."""
    return np.array([answered([scores_of(row)], row.answer)[0] for row in rows]).T


def _base(rows: Sequence[AuditRow], seed: int) -> Base:
    found = above_chance([_record(row) for row in rows])
    right, loss = _answered(rows, lambda row: row.scores)
    return Base(
        n=len(rows),
        accuracy=_interval(100 * right, seed),
        loss=_interval(loss, seed),
        chance=found.chance,
        p=found.p,
        above_chance=found.shown,
    )


def _record(row: AuditRow) -> ScoredAnswer:
    """A row as the model's own answer."""
    choice = int(np.argmax(row.scores))
    known = row.model_dump(include={"dataset", "id", "seed", "answer", "scores"})
    told = {"arm": PLAIN, "choice": choice, "correct": choice == row.answer, "cost": {"total": 1.0}}
    return ScoredAnswer.model_validate(known | told)


def _effect(rows: Sequence[AuditRow], trial: Trial, model: RoutedModel, seed: int) -> Effect:
    return Effect(
        intervention=trial.intervention,
        where=trial.where,
        layer=None if trial.position is None else model.layers[trial.position],
        n=len(rows),
        cost=_mean([row.costs[trial.name] for row in rows]),
        **_paired(rows, lambda row: row.trials[trial.name], seed),
    )


def _reached(rows: Sequence[AuditRow], descent: LabelDescent, seed: int) -> Reached:
    asked = [row for row in rows if descent.name in row.reached]
    return Reached(
        rate=descent.rate,
        of=descent.of,
        selector=descent.selector,
        steps=NGD.steps,
        n=len(asked),
        cost=_mean([row.costs[descent.name] for row in asked]),
        **_paired(asked, lambda row: row.reached[descent.name], seed),
    )


class _Paired(TypedDict):
    accuracy: AuditInterval
    loss: AuditInterval
    p: float


def _paired(rows: Sequence[AuditRow], scores_of: Callable[[AuditRow], list[float]], seed: int) -> _Paired:
    """Accuracy in points, loss in nats, and p of the first, of other scores minus those as routed."""
    right, loss = _answered(rows, scores_of) - _answered(rows, lambda row: row.scores)
    found = over_flips([right[:, None]], seed=seed)
    return {
        "accuracy": AuditInterval(value=100 * float(right.mean()), low=100 * found.low, high=100 * found.high),
        "loss": AuditInterval(value=float(loss.mean()), **_ends(loss, seed)),
        "p": found.p,
    }


def _layers(rows: Sequence[AuditRow], model: RoutedModel, kinds: Sequence[str], seed: int) -> list[LayerUse]:
    shares = loads([row.used for row in rows])
    told = shared_with_kinds(shares, [row.kind for row in rows], seed) if len(kinds) > 1 else None
    bans = np.mean([row.bans for row in rows], 0) if rows[0].bans else None
    return [
        LayerUse(
            layer=layer,
            load=[float(f"{x:.5g}") for x in shares[:, i].mean(0)],
            entropy=evenness(shares[:, i].mean(0)),
            kinds=None if told is None else told[i],
            ban=None if bans is None else float(bans[i].max()),
        )
        for i, layer in enumerate(model.layers)
    ]


def _bans(rows: Sequence[AuditRow], model: RoutedModel, seed: int) -> list[Ban]:
    """The experts whose ban costs most; intervals are of each by itself, not of having been picked."""
    each = np.asarray([row.bans for row in rows])
    order = each.mean(0).ravel().argsort()[::-1][:SHOWN_BANS]
    places = [divmod(int(flat), each.shape[2]) for flat in order]
    return [Ban(layer=model.layers[i], expert=expert, loss=_interval(each[:, i, expert], seed)) for i, expert in places]


def _fragile(rows: Sequence[AuditRow], model: RoutedModel) -> Fragile:
    places = Counter(token for row in rows for token in row.fragile)
    return Fragile(
        tokens=sum(len(row.fragile) for row in rows) / max(1, sum(row.tokens for row in rows)),
        questions=_mean([float(bool(row.fragile)) for row in rows]),
        most=[(str(model.tokenizer.decode([token])), n) for token, n in places.most_common(SHOWN_TOKENS)],
    )


def _interval(values: Floats, seed: int) -> AuditInterval:
    return AuditInterval(value=_mean(values.tolist()), **_ends(values, seed))


def _ends(values: Floats, seed: int) -> dict[str, float]:
    """Of a 95 % interval of their mean over questions."""
    return dict(zip(("low", "high"), bootstrap_interval([values], seed=seed), strict=True))


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0


def leverage_in_words(permuted: Effect | None) -> str:
    """What permuted routers cost. Of what re-mixing can win it says nothing: where routers are wrong already, other
    wrong ones cost nothing, and the right ones win most."""
    if permuted is None:
        return "What permuted routers cost cannot be said, as these routers cannot be permuted"
    value, low, high = (
        f"{0 - round(x, 1):.1f}" for x in (permuted.accuracy.value, permuted.accuracy.high, permuted.accuracy.low)
    )
    nats = permuted.loss
    return (
        f"Permuting the routers costs {value} points [{low}, {high}] and {nats.value:.2f} nats "
        f"[{nats.low:.2f}, {nats.high:.2f}]: how much this routing is used, not whether it is right"
    )


def _headroom(reached: Sequence[Reached]) -> str:
    most = max(reached, key=lambda r: r.accuracy.value, default=None)
    if most is None:
        return "what re-mixing could reach was not tried"
    if most.n < FEW:
        return f"{most.n} questions are too few to say what re-mixing could reach"
    gain = f"{most.accuracy.value:+.1f} points [{most.accuracy.low:.1f}, {most.accuracy.high:.1f}]"
    of = f", {most.of}" if most.of else ""
    return (
        f"the most that re-mixing by this rate ({most.rate:g}{of}) could reach is {gain} "
        f"(by the label, {most.selector}, {most.n} questions; the best of {len(reached)} tried)"
    )


def _chance(base: Base) -> str:
    p = "p < 0.001" if base.p < 0.001 else f"p = {base.p:.2g}"
    above = "is above chance" if base.above_chance else "is not shown to be above chance"
    return f"base ({base.accuracy.value:.1f} %) {above} ({base.chance:.1f} %, {p})"


def leverage_line(summary: AuditSummary) -> str:
    """What stands beside results on the same model: the audit's sentence, and on what it rests."""
    return summary.line
