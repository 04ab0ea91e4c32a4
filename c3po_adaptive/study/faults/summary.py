"""From records to what was found and won back of each fault, with intervals over questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...analysis.statistics import TAIL, bootstrap_interval, gold_nll, holm, sign_flip_p
from ...errors import DataError
from ...storage.json_files import SCHEMA
from .config import BASE, REACH, SOUND, FaultsConfig
from .truth import FaultAnswer, Floats, area_under_curve

Bools = NDArray[np.bool_]
RESAMPLES = 2000
BOUND, NOTHING = "upper bound", "nothing planted"


def summarize(records: Sequence[FaultAnswer], config: FaultsConfig, layers: Sequence[int]) -> dict[str, Any]:
    """``rows``: an arm at a dose of a fault, on a data set (and on ``all``, the mean over them); ``faults``: what each
    lost.

    Args:
        records: of the study.
        config: of it.
        layers: decoder layers that are MoE layers.

    Raises:
        DataError: a question without some of its rows: the study was interrupted.
    """
    names = [d.name for d in config.datasets]
    tables = {name: _Table([r for r in records if r.dataset == name], config, layers) for name in names}
    groups = {name: [name] for name in names} | ({"all": names} if len(names) > 1 else {})
    rows, faults = [], []
    for group, members in groups.items():
        for name, spec in config.faults.items():
            for dose in (0.0, *(dose for dose in spec.doses if dose > 0)):
                asked = _Asked([tables[m] for m in members], config, name, dose, spec.fault(layers, dose).layers)
                what = {"dataset": group, "fault": name, "dose": dose, "layers": list(asked.place)}
                faults.append(what | asked.lost)
                rows += [what | asked.row(arm) for arm in config.arms]
    for name, told, otherwise in (("auc", "finds", "not found"), ("gain", "mends", "not shown")):
        _corrected(rows, name, told, otherwise)
    return {
        "schema_version": SCHEMA,
        "kind": "faults",
        "config": config.model_dump(mode="json"),
        "decoder_layers": list(layers),
        "faults": faults,
        "rows": rows,
    }


class _Table:
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

    tables: Sequence[_Table]
    config: FaultsConfig
    fault: str
    dose: float
    place: tuple[int, ...]

    @property
    def cell(self) -> str:
        return f"{self.fault}, dose {self.dose:g}" if self.dose else SOUND

    @property
    def broken(self) -> Bools:
        """``[L]`` layers of the place: at dose zero those where nothing is."""
        return np.array([layer in self.place for layer in self.tables[0].layers])

    def concerned(self, table: _Table) -> Bools:
        """``[N]`` questions that the fault routes otherwise."""
        return np.array([r.concerned for r in table.rows(self.cell, BASE)], dtype=bool)

    @cached_property
    def lost(self) -> dict[str, Any]:
        """By the fault: accuracy in points, and the loss of the right choice in nats; and of these what is within
        reach of tokens that ω acts on."""
        told: dict[str, Any] = {
            "n": sum(len(t.rows(self.cell, BASE)) for t in self.tables),
            "concerned": sum(int(self.concerned(t).sum()) for t in self.tables),
            "sound_accuracy": _mean([100 * t.of(SOUND, BASE, _right) for t in self.tables]),
            "accuracy": _mean([100 * t.of(self.cell, BASE, _right) for t in self.tables]),
        }
        for name, value in _LOST.items():
            told |= self._interval(name, [value(t, self.cell) for t in self.tables])
        return told

    def row(self, arm: str) -> dict[str, Any]:
        """An arm, beside the truth."""
        selector, optimizer = self.config.arms[arm]
        looked = [self.concerned(t) | (self.dose == 0) for t in self.tables]
        found: dict[str, Any] = {
            "selector": selector,
            "optimizer": optimizer,
            "role": self._role(arm),
            "n": self.lost["n"],
            "concerned": self.lost["concerned"],
            "chance": float(self.broken.mean()),
            "chosen": [round(float(x), 4) for x in np.mean([t.chosen(self.cell, arm).mean(0) for t in self.tables], 0)],
        }
        layers = {
            name: [s[mask] for s, mask in zip(strata, looked, strict=True)]
            for name, strata in self._layers(arm).items()
        }
        for name, strata in layers.items():
            found |= self._interval(name, strata)
        found["auc_p"] = self._p([area - 0.5 for area in layers["auc"]], layers["auc_rise"])
        for name in ("expert_precision", "expert_recall", "cosine"):
            found |= self._interval(name, [t.of(self.cell, arm, lambda r, n=name: getattr(r, n)) for t in self.tables])  # type: ignore[misc]
        found |= self._won(arm, looked)
        return found | {"finds": self._finds(found), "mends": self._mends(found)}

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

    def _won(self, arm: str, looked: Sequence[Bools]) -> dict[str, Any]:
        gains = [100 * _by(t, self.cell, arm, BASE, _right) for t in self.tables]
        at_zero = [100 * _by(t, SOUND, arm, BASE, _right) for t in self.tables]
        falls = [_by(t, self.cell, BASE, arm, _nll) for t in self.tables]
        found = self._interval("gain", gains) | self._interval("loss_gain", falls)
        rises = [a - b for a, b in zip(gains, at_zero, strict=True)]
        found |= self._interval("gain_rise", rises) | {"gain_p": self._p(gains, rises)}
        left = [mask if self.dose == 0 else ~mask for mask in looked]
        found |= self._interval("harm", [-g[mask] for g, mask in zip(gains, left, strict=True)])
        for name, won, of in (
            ("won_back", gains, "lost"),
            ("loss_won_back", falls, "loss_lost"),
            ("loss_won_back_in_reach", falls, "loss_in_reach"),
        ):
            found |= self._ratio(name, won, of)
        return found

    def _ratio(self, name: str, won: Sequence[Floats], of: str) -> dict[str, Any]:
        """Nothing is a share of what is not shown to be lost."""
        low = self.lost[f"{of}_ci_low"]
        if self.dose == 0 or low is None or low <= 0:
            return _none(name)
        lost = [_LOST[of](t, self.cell) for t in self.tables]
        drawn, rng = [], np.random.default_rng(self.config.seed)
        for a, b in zip(won, lost, strict=True):
            rows = rng.integers(len(a), size=(RESAMPLES, len(a)))
            drawn.append((a[rows].mean(1), b[rows].mean(1)))
        top, bottom = (np.mean([pair[i] for pair in drawn], 0) for i in (0, 1))
        low, high = np.quantile((top / bottom)[bottom > 0], [TAIL, 1 - TAIL])
        return {name: _mean(won) / _mean(lost), f"{name}_ci_low": float(low), f"{name}_ci_high": float(high)}

    def _interval(self, name: str, strata: Sequence[Floats]) -> dict[str, Any]:
        """The mean over data sets of those questions that have a value; None unless each has two of them."""
        known = [s[~np.isnan(s)] for s in strata]
        if min(map(len, known)) < 2:
            return _none(name)
        low, high = bootstrap_interval(known, seed=self.config.seed)
        return {name: _mean(known), f"{name}_ci_low": low, f"{name}_ci_high": high}

    def _p(self, *claims: Sequence[Floats]) -> float | None:
        """Of the weakest of several claims that something is not zero, by sign flips; None where one has no values."""
        known = [[s[~np.isnan(s)] for s in strata] for strata in claims]
        if min(len(s) for strata in known for s in strata) < 2:
            return None
        return max(sign_flip_p(strata, seed=self.config.seed) for strata in known)

    def _role(self, arm: str) -> str:
        rows = [r for t in self.tables for r in t.rows(self.cell, arm)]
        if any(r.needs_label for r in rows):
            return "bound"
        return "control" if any(r.setting.varies for r in rows) else "method"

    def _finds(self, row: Mapping[str, Any]) -> str:
        """Whether it finds the layers: better than chance, and than where nothing is planted; before Holm."""
        if row["role"] == "bound":
            return BOUND
        if self.dose == 0 or not self.place:
            return NOTHING
        if row["auc"] is None:
            return "no layers to compare"
        if row["auc_ci_low"] <= 0.5:
            return "not found"
        return "found" if row["auc_rise_ci_low"] > 0 else "leans there anyway"

    def _mends(self, row: Mapping[str, Any]) -> str:
        """Whether it wins back what was lost: more than nothing, and than where nothing is planted; before Holm."""
        if row["role"] == "bound":
            return BOUND
        if row["gain"] is None:
            return "not shown"
        if row["gain_ci_high"] < 0:
            return "harms"
        if self.dose == 0 or not self.place:
            return NOTHING
        if (self.lost["lost_ci_low"] or 0) <= 0:
            return "nothing lost"
        if row["gain_ci_low"] <= 0:
            return "not shown"
        return "wins back" if row["gain_rise_ci_low"] > 0 else "gains anyway"


def _corrected(rows: Sequence[dict[str, Any]], name: str, told: str, otherwise: str) -> None:
    """Take back what Holm's correction over all methods, faults and doses does not leave."""
    tested = [row for row in rows if row["role"] == "method" and row["dose"] > 0 and row[f"{name}_p"] is not None]
    for row, p in zip(tested, holm([row[f"{name}_p"] for row in tested]), strict=True):
        row[f"{name}_p_holm"] = p
        if p >= 2 * TAIL and row[told] in ("found", "wins back"):
            row[told] = otherwise


def _right(record: FaultAnswer) -> float:
    return float(record.correct)


def _nll(record: FaultAnswer) -> float:
    return gold_nll(record)


def _by(table: _Table, cell: str, a: str, b: str, value: Callable[[FaultAnswer], float]) -> Floats:
    """``[N]`` value of a − that of b."""
    return table.of(cell, a, value) - table.of(cell, b, value)


_LOST: Mapping[str, Callable[[_Table, str], Floats]] = {
    "lost": lambda t, cell: 100 * (t.of(SOUND, BASE, _right) - t.of(cell, BASE, _right)),
    "loss_lost": lambda t, cell: t.of(cell, BASE, _nll) - t.of(SOUND, BASE, _nll),
    "loss_in_reach": lambda t, cell: t.of(cell, BASE, _nll) - t.of(cell, REACH, _nll),
}


def _share(of: Bools, whole: NDArray[Any]) -> Floats:
    """``[N]``; NaN of nothing."""
    found: Floats = np.divide(of.sum(1), whole, out=np.full(len(of), np.nan), where=whole > 0)
    return found


def _mean(strata: Sequence[Floats]) -> float:
    return float(np.mean([s.mean() for s in strata]))


def _none(name: str) -> dict[str, None]:
    return dict.fromkeys((name, f"{name}_ci_low", f"{name}_ci_high"))
