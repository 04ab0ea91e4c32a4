"""What an attribution found: values, a table of layers, a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, TypedDict

from torch import Tensor

from .choices import is_named
from .methods import METHODS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 5  # layers, where it is printed
EXPERTS = 3  # of each layer, there and in the table
TINY = 1e-30  # in the place of a strength of zero


Interval = tuple[float, float]


class LayerRow(TypedDict):
    """A layer of ``Attributed.table``."""

    layer: int
    strength: float
    share: float
    share_interval: Interval | None
    sum: float
    sum_interval: Interval | None
    experts: dict[int, float]


@dataclass(frozen=True, eq=False)
class Attributed:
    """What each routing weight contributes to f(Ω); ``print`` it, or see its ``table()`` and its ``plot()``, which say
    the same.

    Attributes:
        values: ``[B, L, E]``.
        passes: tail passes per sample, a backward pass counting two.
        delta: ``[B]`` the values' sum minus f(ω0) − f(baseline), zero for a complete method; None if it was not asked
            for, or completeness is not defined for the method. Where tokens after the prompt's last one choose their
            experts anew, f(Ω) jumps, and integrated gradients are off by the jumps on their path: complete for
            options of one token, where no token comes after; Shapley values and KernelShap always are.
        method: the name of the method, one of ``METHODS``.
        of: f, in words.
        baseline: what ω was compared with, in words; None for a method that compares with nothing.
        decoder_layers: decoder layer index of each of the L rows.
        by_layer: whole layers were taken away, so that nothing is known of their experts.
    """

    values: Tensor
    passes: float
    delta: Tensor | None
    method: str
    of: str
    baseline: str | None
    decoder_layers: tuple[int, ...]
    by_layer: bool

    @property
    def strength(self) -> Tensor:
        """``[B, L]`` the sum over a layer's experts of |attribution|: how much it matters, whichever way."""
        return self.values.abs().sum(-1)

    @property
    def sums(self) -> Tensor:
        """``[B, L]`` the sum over a layer's experts of the attributions with their signs: which way it goes."""
        return self.values.sum(-1)

    def __getattr__(self, name: str) -> Any:
        if name == "layers":
            raise AttributeError(
                "Attributed.layers is now called strength [B, L], unsigned; sums [B, L] has the signs."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getitem__(self, sample: int | slice) -> Attributed:
        """Some of the samples, or one."""
        rows = slice(sample, sample + 1 or None) if isinstance(sample, int) else sample
        values = self.values[rows]
        if not len(values):
            raise IndexError(f"Expected a sample from 0 to {len(self.values) - 1}, got {sample}.")
        return replace(self, values=values, delta=None if self.delta is None else self.delta[rows])

    def __len__(self) -> int:
        return len(self.values)

    def table(self) -> list[LayerRow]:
        """A row for each layer, the strongest first; means over the samples.

        Returns:
            ``layer``, the decoder layer; ``strength``, the sum of |attribution| over its experts; ``share`` of all
            layers' strength; ``sum`` of the attributions with their signs, which of a complete method add up to
            f(ω0) − f(baseline), and which cancel where samples disagree; ``share_interval`` and ``sum_interval``, 95 %
            over the samples by Student's t, None of a single one; ``experts``, those with the largest mean
            |attribution|, by number, with their mean attribution: none where whole layers were taken away.
        """
        strength, sums = self.strength.mean(0), self.sums.mean(0)
        total = strength.sum().item()
        share = strength / total if total else strength
        n = len(self)
        off = self.strength - share * self.strength.sum(-1, keepdim=True)  # [B, L] of a ratio of means, linearized
        shares = _intervals(
            share, off.square().sum(0).sqrt() / max(n * total, TINY) * (n / max(n - 1, 1)) ** 0.5, n, 0, 1
        )
        signed = _intervals(sums, self.sums.var(0, correction=min(n - 1, 1)).div(n).sqrt(), n)
        return [
            {
                "layer": self.decoder_layers[row],
                "strength": strength[row].item(),
                "share": share[row].item(),
                "share_interval": shares[row],
                "sum": sums[row].item(),
                "sum_interval": signed[row],
                "experts": {} if self.by_layer else _largest(self.values[:, row]),
            }
            for row in strength.argsort(descending=True, stable=True).tolist()
        ]

    def plot(self) -> Figure:
        """What ``table()`` says of each layer: its share of the strength and its signed sum, with intervals over the
        samples; and where it is known each expert's mean |attribution|, in the color of its sign."""
        from ..pictures import attributed_layers

        rows = sorted(self.table(), key=lambda row: self.decoder_layers.index(row["layer"]))
        return attributed_layers(self.values, rows, title=self._title, unit=self.unit, by_expert=not self.by_layer)

    @property
    def unit(self) -> str:
        """What attributions are in."""
        known = is_named(self.of) or self.of.startswith("choice ")
        return f"{'nats' if known else 'units of f'}{' per unit of weight' if self.method == 'saliency' else ''}"

    @property
    def _title(self) -> str:
        return f"{self.method} of {self.of}" + ("" if self.baseline is None else f", against {self.baseline}")

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        samples, layers, experts = self.values.shape
        yield f"Attributed: {self._title}"
        of = f"{samples} {'sample' if samples == 1 else 'samples'}"
        yield f"  {of} × {layers} layers × {experts} experts, {self.passes:.3g} tail passes a sample"
        yield f"  completeness: {self._completeness}"
        rows = self.table()
        over = "" if samples == 1 else "means over the samples [95 %], "
        yield f"  layers by share, {over}with their signed sums:"
        for row in rows[:SHOWN]:
            best = list(row["experts"].items())[: EXPERTS if samples == 1 else EXPERTS - 1]  # beside intervals
            some = ", ".join(f"{expert} {_signed(value)}" for expert, value in best)
            line = f"    layer {row['layer']:<3} {row['share']:6.1%}{_share_interval(row['share_interval'])}"
            line += f"  {_signed(row['sum']):>9}{_sum_interval(row['sum_interval'])}"
            yield line + (f"  experts {some}" if some else "")
        if len(rows) > SHOWN:
            yield f"    … and {len(rows) - SHOWN} more: .table(), .plot()"

    @property
    def _completeness(self) -> str:
        if not METHODS[self.method].complete:
            return f"not defined for {self.method}"
        if self.delta is None:
            return "not looked at (delta=True)"
        return f"the sum is off f(ω0) − f(baseline) by {self.delta.abs().max().item():.1e} at most"


def _intervals(middle: Tensor, errors: Tensor, n: int, least: float = -inf, most: float = inf) -> list[Interval | None]:
    """95 % intervals around each of ``[L]``, from the standard error over n samples, within limits; none of one."""
    from scipy.stats import t

    if n < 2:
        return [None] * len(middle)
    wide = float(t.ppf(0.975, n - 1)) * errors
    low, high = ((middle + sign * wide).clamp(least, most) for sign in (-1, 1))
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _largest(values: Tensor) -> dict[int, float]:
    """Experts whose attributions ``[B, E]`` are strongest, and the mean of each."""
    strength, mean = values.abs().mean(0), values.mean(0)
    order = strength.argsort(descending=True, stable=True)[:EXPERTS].tolist()
    return {expert: mean[expert].item() for expert in order if strength[expert]}


def _share_interval(interval: Interval | None) -> str:
    return "" if interval is None else f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]".ljust(14)


def _sum_interval(interval: Interval | None) -> str:
    return "" if interval is None else f" [{_signed(interval[0])}, {_signed(interval[1])}]"


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")
