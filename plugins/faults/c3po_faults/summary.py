"""From records to what was found and won back of each fault, with intervals over questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from c3po_adaptive import DataError, bootstrap_interval, gold_nll, holm, sign_flip_p
from c3po_adaptive.study import Interval

from .answer import FaultAnswer, Floats, area_under_curve
from .config import BASE, REACH, SOUND, FaultsConfig, cell_of
from .rows import FaultsSummary, FoundRow, LostRow, Told

Bools = NDArray[np.bool_]
RESAMPLES = 2000
TAIL = (1 - 0.95) / 2
"""On either side of a 95 % interval."""
BOUND, NOTHING = "upper bound", "nothing planted"


def summarize(
    records: Sequence[FaultAnswer],
    config: FaultsConfig,
    layers: Sequence[int],
    hashes: Mapping[str, object] | None = None,
) -> FaultsSummary:
    """What each fault lost, and what each arm found and won back of it.

    Args:
        records: of the study.
        config: of it.
        layers: decoder layers that are MoE layers.
        hashes: of what was read.

    Raises:
        DataError: a question without some of its rows: the study was interrupted.
    """
    names = [d.name for d in config.datasets]
    tables = {name: _QuestionsOfArms([r for r in records if r.dataset == name], config, layers) for name in names}
    groups = {name: [name] for name in names} | ({"all": names} if len(names) > 1 else {})
    rows: list[FoundRow] = []
    faults: list[LostRow] = []
    for group, members in groups.items():
        for name, spec in config.faults.items():
            for dose in (0.0, *(dose for dose in spec.doses if dose > 0)):
                asked = _Asked([tables[m] for m in members], group, config, name, dose, spec.fault(layers, dose).layers)
                faults.append(asked.lost)
                rows += [asked.row(arm) for arm in config.arms]
    for name, told, otherwise in (("auc", "finds", "not found"), ("gain", "mends", "not shown")):
        rows = _corrected(rows, name, told, otherwise)
    return FaultsSummary(
        config=config.model_dump(mode="json"),
        decoder_layers=tuple(layers),
        faults=tuple(faults),
        rows=tuple(rows),
        hashes=dict(hashes or {}),
    )


class _QuestionsOfArms:
    """One data set's records, question by question in one order."""

    def __init__(self, records: Sequence[FaultAnswer], config: FaultsConfig, layers: Sequence[int]) -> None:
        self.layers = list(layers)
        found: dict[str, dict[str, FaultAnswer]] = {name: {} for name in config.parts}
        for record in records:
            if record.arm in found:
                found[record.arm][record.id] = record
        ids = list(dict.fromkeys(record.id for record in records))
        if missing := [name for name, rows in found.items() if rows.keys() != {*ids}]:
            raise DataError(f"Expected every question of every arm, got some without {missing[0]}; run it to the end.")
        self._rows = {config.parts[name]: [rows[i] for i in ids] for name, rows in found.items()}

    def rows(self, cell: str, arm: str) -> list[FaultAnswer]:
        return self._rows[cell, arm]

    def of(self, cell: str, arm: str, value: Callable[[FaultAnswer], float | None]) -> Floats:
        """``[N]``; NaN for None."""
        return np.array([np.nan if (x := value(r)) is None else x for r in self.rows(cell, arm)], dtype=float)

    def chosen(self, cell: str, arm: str) -> Bools:
        """``[N, L]`` layers that were re-mixed."""
        return np.array([[layer in r.layers for layer in self.layers] for r in self.rows(cell, arm)])

    def scored(self, cell: str, arm: str) -> Floats:
        """``[N, L]`` what the selector gave each layer, or whether it was re-mixed, where it scores none."""
        chosen = self.chosen(cell, arm).astype(float)
        return np.array([r.scored or row for r, row in zip(self.rows(cell, arm), chosen.tolist(), strict=True)])


@dataclass(frozen=True)
class _Asked:
    """Data sets asked at one dose of a fault."""

    tables: Sequence[_QuestionsOfArms]
    dataset: str
    config: FaultsConfig
    fault: str
    dose: float
    place: tuple[int, ...]

    @property
    def cell(self) -> str:
        return cell_of(self.fault, self.dose)

    @property
    def broken(self) -> Bools:
        """``[L]`` layers of the place: at dose zero those where nothing is."""
        return np.array([layer in self.place for layer in self.tables[0].layers])

    def concerned(self, table: _QuestionsOfArms) -> Bools:
        """``[N]`` questions that the fault routes otherwise."""
        return np.array([r.concerned for r in table.rows(self.cell, BASE)], dtype=bool)

    @cached_property
    def lost(self) -> LostRow:
        """By the fault."""
        return LostRow(
            dataset=self.dataset,
            fault=self.fault,
            dose=self.dose,
            layers=self.place,
            n=sum(len(t.rows(self.cell, BASE)) for t in self.tables),
            concerned=sum(int(self.concerned(t).sum()) for t in self.tables),
            sound_accuracy=_mean([100 * t.of(SOUND, BASE, _right) for t in self.tables]),
            accuracy=_mean([100 * t.of(self.cell, BASE, _right) for t in self.tables]),
            lost=self._interval(self._losses(_lost)),
            loss_lost=self._interval(self._losses(_loss_lost)),
            loss_in_reach=self._interval(self._losses(_loss_in_reach)),
        )

    def _losses(self, of: Callable[[_QuestionsOfArms, str], Floats]) -> list[Floats]:
        return [of(table, self.cell) for table in self.tables]

    def row(self, arm: str) -> FoundRow:
        """An arm, beside the truth."""
        selector, optimizer = self.config.arms[arm]
        looked = [self.concerned(t) | (self.dose == 0) for t in self.tables]
        layers = {
            name: [s[mask] for s, mask in zip(strata, looked, strict=True)]
            for name, strata in self._layers(arm).items()
        }
        gains = [100 * _by(t, self.cell, arm, BASE, _right) for t in self.tables]
        at_zero = [100 * _by(t, SOUND, arm, BASE, _right) for t in self.tables]
        falls = [_by(t, self.cell, BASE, arm, _nll) for t in self.tables]
        rises = [a - b for a, b in zip(gains, at_zero, strict=True)]
        left = [mask if self.dose == 0 else ~mask for mask in looked]
        role, lost = self._role(arm), self.lost
        auc, auc_rise = self._interval(layers["auc"]), self._interval(layers["auc_rise"])
        gain, gain_rise = self._interval(gains), self._interval(rises)
        return FoundRow(
            dataset=self.dataset,
            fault=self.fault,
            dose=self.dose,
            layers=self.place,
            selector=selector,
            optimizer=optimizer,
            role=role,
            n=lost.n,
            concerned=lost.concerned,
            chance=float(self.broken.mean()),
            chosen=tuple(
                round(float(x), 4) for x in np.mean([t.chosen(self.cell, arm).mean(0) for t in self.tables], 0)
            ),
            auc=auc,
            auc_rise=auc_rise,
            precision=self._interval(layers["precision"]),
            recall=self._interval(layers["recall"]),
            auc_p=self._p([area - 0.5 for area in layers["auc"]], layers["auc_rise"]),
            expert_precision=self._interval([t.of(self.cell, arm, lambda r: r.expert_precision) for t in self.tables]),
            expert_recall=self._interval([t.of(self.cell, arm, lambda r: r.expert_recall) for t in self.tables]),
            cosine=self._interval([t.of(self.cell, arm, lambda r: r.cosine) for t in self.tables]),
            gain=gain,
            loss_gain=self._interval(falls),
            gain_rise=gain_rise,
            gain_p=self._p(gains, rises),
            harm=self._interval([-g[mask] for g, mask in zip(gains, left, strict=True)]),
            won_back=self._share_of(lost.lost, gains, self._losses(_lost)),
            loss_won_back=self._share_of(lost.loss_lost, falls, self._losses(_loss_lost)),
            loss_won_back_in_reach=self._share_of(lost.loss_in_reach, falls, self._losses(_loss_in_reach)),
            finds=BOUND if role == "bound" else self._finds(auc, auc_rise),
            mends=BOUND if role == "bound" else self._mends(gain, gain_rise),
        )

    def _layers(self, arm: str) -> dict[str, list[Floats]]:
        """How the layers that were chosen fit the place; ``auc_rise``: by how much better than where nothing is."""
        broken, found = self.broken, {}
        if 0 < broken.sum() < len(broken):
            areas = {
                cell: [area_under_curve(t.scored(cell, arm), broken) for t in self.tables]
                for cell in (self.cell, SOUND)
            }
            found["auc"] = areas[self.cell]
            found["auc_rise"] = [a - b for a, b in zip(areas[self.cell], areas[SOUND], strict=True)]
        else:
            found["auc"] = found["auc_rise"] = [np.full(len(t.rows(self.cell, arm)), np.nan) for t in self.tables]
        chosen = [t.chosen(self.cell, arm) for t in self.tables]
        found["precision"] = [_share(c & broken, c.sum(1)) for c in chosen]
        found["recall"] = [_share(c & broken, np.full(len(c), broken.sum())) for c in chosen]
        return found

    def _share_of(self, told: Told, won: Sequence[Floats], lost: Sequence[Floats]) -> Told:
        """Nothing is a share of what is not shown to be lost."""
        if self.dose == 0 or told is None or told.ci_low <= 0:
            return None
        drawn, rng = [], np.random.default_rng(self.config.seed)
        for a, b in zip(won, lost, strict=True):
            rows = rng.integers(len(a), size=(RESAMPLES, len(a)))
            drawn.append((a[rows].mean(1), b[rows].mean(1)))
        top, bottom = (np.mean([pair[i] for pair in drawn], 0) for i in (0, 1))
        low, high = np.quantile((top / bottom)[bottom > 0], [TAIL, 1 - TAIL])
        return Interval(mean=_mean(won) / _mean(lost), ci_low=float(low), ci_high=float(high))

    def _interval(self, strata: Sequence[Floats]) -> Told:
        """The mean over data sets of those questions that have a value; None unless each has two of them."""
        known = [s[~np.isnan(s)] for s in strata]
        if min(map(len, known)) < 2:
            return None
        low, high = bootstrap_interval(known, seed=self.config.seed)
        return Interval(mean=_mean(known), ci_low=low, ci_high=high)

    def _p(self, *claims: Sequence[Floats]) -> float | None:
        """Of the weakest of several claims that something is not zero, by sign flips; None where one has no values."""
        known = [[s[~np.isnan(s)] for s in strata] for strata in claims]
        if min(len(s) for strata in known for s in strata) < 2:
            return None
        return max(sign_flip_p(strata, seed=self.config.seed) for strata in known)

    def _role(self, arm: str) -> Literal["bound", "control", "method"]:
        rows = [r for t in self.tables for r in t.rows(self.cell, arm)]
        if any(r.needs_label for r in rows):
            return "bound"
        return "control" if any(r.setting.varies for r in rows) else "method"

    def _finds(self, auc: Told, rise: Told) -> str:
        """Whether it finds the layers: better than chance, and than where nothing is planted; before Holm."""
        if self.dose == 0 or not self.place:
            return NOTHING
        if auc is None or rise is None:
            return "no layers to compare"
        if auc.ci_low <= 0.5:
            return "not found"
        return "found" if rise.ci_low > 0 else "leans there anyway"

    def _mends(self, gain: Told, rise: Told) -> str:
        """Whether it wins back what was lost: more than nothing, and than where nothing is planted; before Holm."""
        if gain is None or rise is None:
            return "not shown"
        if gain.ci_high < 0:
            return "harms"
        if self.dose == 0 or not self.place:
            return NOTHING
        if self.lost.lost is None or self.lost.lost.ci_low <= 0:
            return "nothing lost"
        if gain.ci_low <= 0:
            return "not shown"
        return "wins back" if rise.ci_low > 0 else "gains anyway"


def _corrected(rows: Sequence[FoundRow], name: str, told: str, otherwise: str) -> list[FoundRow]:
    """With what Holm's correction over all methods, faults and doses does not leave taken back."""
    ps = [getattr(row, f"{name}_p") if row.role == "method" and row.dose > 0 else None for row in rows]
    left = iter(holm([p for p in ps if p is not None]))
    found = []
    for row, p in zip(rows, ps, strict=True):
        if p is not None:
            corrected = next(left)
            taken_back = corrected >= 2 * TAIL and getattr(row, told) in ("found", "wins back")
            said = {told: otherwise} if taken_back else {}
            row = row.model_copy(update={f"{name}_p_holm": corrected, **said})
        found.append(row)
    return found


def _right(record: FaultAnswer) -> float:
    return float(record.correct)


def _nll(record: FaultAnswer) -> float:
    return gold_nll(record)


def _by(table: _QuestionsOfArms, cell: str, a: str, b: str, value: Callable[[FaultAnswer], float]) -> Floats:
    """``[N]`` value of a − that of b."""
    return table.of(cell, a, value) - table.of(cell, b, value)


def _lost(table: _QuestionsOfArms, cell: str) -> Floats:
    return 100 * (table.of(SOUND, BASE, _right) - table.of(cell, BASE, _right))


def _loss_lost(table: _QuestionsOfArms, cell: str) -> Floats:
    return table.of(cell, BASE, _nll) - table.of(SOUND, BASE, _nll)


def _loss_in_reach(table: _QuestionsOfArms, cell: str) -> Floats:
    return table.of(cell, BASE, _nll) - table.of(cell, REACH, _nll)


def _share(of: Bools, whole: NDArray[Any]) -> Floats:
    """``[N]``; NaN of nothing."""
    found: Floats = np.divide(of.sum(1), whole, out=np.full(len(of), np.nan), where=whole > 0)
    return found


def _mean(strata: Sequence[Floats]) -> float:
    return float(np.mean([s.mean() for s in strata]))
