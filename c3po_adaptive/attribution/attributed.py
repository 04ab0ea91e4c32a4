"""What an attribution found: values, a table of layers, a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

from torch import Tensor

from .methods import METHODS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 5  # layers, where it is printed
EXPERTS = 3  # of each layer, there and in the table


class LayerRow(TypedDict):
    """A layer of ``Attributed.table``."""

    layer: int
    score: float
    share: float
    sum: float
    experts: dict[int, float]


@dataclass(frozen=True, eq=False)
class Attributed:
    """What each routing weight contributes to f(Ω); ``print`` it, or see its ``table()`` and its ``plot()``.

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
    def layers(self) -> Tensor:
        """``[B, L]`` the sum over a layer's experts of |attribution|."""
        return self.values.abs().sum(-1)

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
        """A row for each layer, the most attributed first; means over the samples.

        Returns:
            ``layer``, the decoder layer; ``score``, the sum of |attribution| over its experts; ``share`` of all
            layers' scores; ``sum`` of the attributions with their signs, which of a complete method add up to
            f(ω0) − f(baseline); ``experts``, those with the largest mean attribution, by number: none where
            whole layers were taken away.
        """
        values, scores = self.values.mean(0), self.layers.mean(0)
        total = scores.sum().item()
        return [
            {
                "layer": self.decoder_layers[row],
                "score": scores[row].item(),
                "share": scores[row].item() / total if total else 0.0,
                "sum": values[row].sum().item(),
                "experts": {} if self.by_layer else _largest(values[row]),
            }
            for row in scores.argsort(descending=True, stable=True).tolist()
        ]

    def plot(self) -> Figure:
        """Each layer's signed sum, and each expert's attribution where it is known; means over the samples."""
        from .plot import drawn

        values = self.values.mean(0).cpu().numpy()
        return drawn(values, self.decoder_layers, f"{self.method} of {self.of}", by_expert=not self.by_layer)

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        samples, layers, experts = self.values.shape
        against = "" if self.baseline is None else f", against {self.baseline}"
        yield f"Attributed: {self.method} of {self.of}{against}"
        of = f"{samples} {'sample' if samples == 1 else 'samples'}"
        yield f"  {of} × {layers} layers × {experts} experts, {self.passes:.3g} tail passes a sample"
        yield f"  completeness: {self._completeness}"
        rows = self.table()
        yield f"  layers by share, {'' if samples == 1 else 'means over the samples, '}with their signed sums:"
        for row in rows[:SHOWN]:
            some = ", ".join(f"{expert} {_signed(value)}" for expert, value in row["experts"].items())
            line = f"    layer {row['layer']:<3} {row['share']:6.1%}  {_signed(row['sum']):>9}"
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


def _largest(values: Tensor) -> dict[int, float]:
    """Experts whose attribution is largest, of ``[E]``."""
    order = values.abs().argsort(descending=True, stable=True)[:EXPERTS].tolist()
    return {expert: values[expert].item() for expert in order if values[expert]}


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")
