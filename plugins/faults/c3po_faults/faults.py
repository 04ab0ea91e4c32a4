"""Known faults: what is wrong with a model's routers, where, and by how much. Nothing here runs a model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from pydantic import JsonValue
from torch import Tensor

from c3po_adaptive import SettingError, check_number
from c3po_adaptive.errors import suggestion
from c3po_adaptive.types import draw_key

Kind = Literal["exchange", "weaken", "strengthen", "noise"]
KINDS: tuple[str, ...] = get_args(Kind)
DIGITS = 9
"""Of an expert's or a layer's number, at most: Python reads no number of thousands of digits."""
PLACES = "last-N, first-N, spread-N, all, none, or decoder layers such as 16,17,20"


@dataclass(frozen=True)
class Fault:
    """What is done to the rows that routers hold, one an expert.

    Each row w becomes w + dose · (t − w): with ``exchange`` t is the other expert's row, with ``weaken`` the mean of
    all rows, with ``strengthen`` as far from the mean on the other side of w (so that the router's preference for the
    expert is 1 − dose or 1 + dose times as large), with ``noise`` w and Gaussian noise of w's length. Biases and
    factors of experts go along, but for noise.

    Attributes:
        kind: see above.
        layers: decoder layers whose routers have it; none: a fault nowhere.
        pairs: of experts that are exchanged.
        experts: that are weakened or strengthened, or whose rows are noisy (none named: all).
        dose: 0 changes nothing; 1 at most, but for strengthening and noise.
        seed: of noise.
        concerns: experts, each with a kind of questions that it is for, as far as somebody says it.

    Raises:
        SettingError: a value that cannot be.
    """

    kind: Kind
    layers: tuple[int, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    experts: tuple[int, ...] = ()
    dose: float = 1.0
    seed: int = 0
    concerns: tuple[tuple[int, str], ...] = ()
    name: ClassVar[str] = "fault"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingError(f"Expected a kind of fault, got {self.kind!r}; {suggestion(str(self.kind), KINDS)}")
        most = 1.0 if self.kind in ("exchange", "weaken") else torch.finfo(torch.float32).max
        check_number(self, "dose", at_least=0, at_most=most, hint="0 changes nothing")
        check_number(self, "seed", at_least=0, whole=True)
        _check_experts(self)
        if list(self.layers) != sorted(set(self.layers)):
            raise SettingError(f"Expected each layer of a fault once, in order, got {list(self.layers)}.")

    @property
    def touched(self) -> tuple[int, ...]:
        """Experts whose rows it changes; none named: all."""
        return tuple(sorted({*self.experts, *(expert for pair in self.pairs for expert in pair)}))

    @property
    def nothing(self) -> bool:
        """Whether the model stays as it is."""
        return self.dose == 0 or not self.layers

    @property
    def broken(self) -> tuple[int, ...]:
        """Decoder layers whose routers are really changed."""
        return () if self.nothing else self.layers

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of questions that it concerns, as far as somebody said it."""
        return tuple(sorted({kind for expert, kind in self.concerns if not self.touched or expert in self.touched}))

    @property
    def undone_by(self) -> dict[str, JsonValue] | None:
        """The exchange of the faulty rows that undoes it; None: the sound rows themselves are needed."""
        if self.kind != "exchange" or self.dose != 1 or not self.layers:
            return None
        return {"kind": "exchange", "pairs": [list(p) for p in self.pairs], "dose": self.dose}

    def values(self) -> dict[str, JsonValue]:
        """Plain ones, which ``fault_of`` reads."""
        return {
            "kind": self.kind,
            "layers": list(self.layers),
            "pairs": [list(pair) for pair in self.pairs],
            "experts": list(self.experts),
            "dose": self.dose,
            "seed": self.seed,
            "concerns": {str(e): [kind for of, kind in self.concerns if of == e] for e, _ in self.concerns},
        }

    def fits(self, layers: Sequence[int], experts: int) -> None:
        """Refuse a model that cannot have it.

        Args:
            layers: decoder layers that are MoE layers.
            experts: how many can be mixed in each.

        Raises:
            SettingError: with what the model has.
        """
        if others := sorted({*self.layers} - {*layers}):
            raise SettingError(
                f"Expected layers of a fault among the MoE layers {', '.join(map(str, layers))}, got {others}; name "
                f"{PLACES}."
            )
        named = (*self.touched, *(expert for expert, _ in self.concerns))
        if named and max(named) >= experts:
            raise SettingError(f"Expected experts from 0 to {experts - 1}, got {max(named)}; name one of these.")

    def changed(self, rows: Tensor, layer: int, *, matrix: bool = True) -> Tensor:
        """What becomes of a layer's rows ``[E, D]`` of one tensor, in its dtype; noise is in the ``matrix`` alone.

        Raises:
            SettingError: a dose by which they are no numbers of that dtype any more.
        """
        if self.dose == 0 or (self.kind == "noise" and not matrix):
            return rows.clone()
        whole, named = rows.float(), list(self.touched or range(len(rows)))
        drawn = torch.Generator().manual_seed(draw_key(self.seed, layer))
        goal = whole.clone()
        goal[named] = _GOALS[self.kind](whole, self, named, drawn)
        changed = (goal if self.dose == 1 else torch.lerp(whole, goal, self.dose)).to(rows.dtype)
        if rows.isfinite().all() and not changed.isfinite().all():
            raise SettingError(
                f"Expected fault.dose to leave finite numbers in the router of layer {layer} "
                f"({str(rows.dtype).removeprefix('torch.')}), got {self.dose:g}; give a smaller one."
            )
        return changed


def _exchanged(rows: Tensor, fault: Fault, named: list[int], drawn: torch.Generator) -> Tensor:
    other = dict(fault.pairs) | {b: a for a, b in fault.pairs}
    return rows[[other[expert] for expert in named]]


def _weakened(rows: Tensor, fault: Fault, named: list[int], drawn: torch.Generator) -> Tensor:
    return rows.mean(0).expand(len(named), -1)


def _strengthened(rows: Tensor, fault: Fault, named: list[int], drawn: torch.Generator) -> Tensor:
    return 2 * rows[named] - rows.mean(0)


def _noisy(rows: Tensor, fault: Fault, named: list[int], drawn: torch.Generator) -> Tensor:
    noise: Tensor = torch.randn(rows.shape, generator=drawn).to(rows) / math.sqrt(rows.shape[1])
    length: Tensor = rows.norm(dim=-1, keepdim=True)
    return (rows + noise * length)[named]


_GOALS: Mapping[str, Callable[[Tensor, Fault, list[int], torch.Generator], Tensor]] = {
    "exchange": _exchanged,
    "weaken": _weakened,
    "strengthen": _strengthened,
    "noise": _noisy,
}
"""What the rows of the experts named are at dose one."""


def _check_experts(fault: Fault) -> None:
    if any(expert < 0 for expert in fault.touched):
        raise SettingError(f"Expected experts counted from 0, got {min(fault.touched)}.")
    if fault.kind != "exchange":
        if fault.pairs:
            raise SettingError(f"Expected pairs of experts in an exchange alone, got {fault.kind!r}; name experts.")
        if fault.kind != "noise" and not fault.experts:
            raise SettingError(f"Expected the experts that {fault.kind} is about, got none; name one at least.")
        if len(set(fault.experts)) != len(fault.experts):
            raise SettingError(f"Expected each expert once, got {list(fault.experts)}.")
        return
    named = [expert for pair in fault.pairs for expert in pair]
    if not named or fault.experts:
        raise SettingError("Expected pairs of experts to exchange, and nothing else; write 5-11, say.")
    if same := [a for a, b in fault.pairs if a == b]:
        raise SettingError(f"Expected pairs of two experts, got expert {same[0]} with itself; name another one.")
    if len(set(named)) != len(named):
        raise SettingError(f"Expected each expert in one pair at most, got {[list(p) for p in fault.pairs]}.")


def layers_of(place: str | Sequence[int], layers: Sequence[int]) -> tuple[int, ...]:
    """Decoder layers that a place names.

    Args:
        place: see ``PLACES``, or the layers themselves.
        layers: decoder layers that are MoE layers.

    Raises:
        SettingError: no such place, or more layers than there are.
    """
    if not isinstance(place, str):
        return tuple(sorted(set(place)))
    if place in ("all", "none"):
        return tuple(layers) if place == "all" else ()
    if re.fullmatch(rf"\d{{1,{DIGITS}}}(\s*,\s*\d{{1,{DIGITS}}})*", place):
        return tuple(sorted({int(layer) for layer in place.split(",")}))
    found = re.fullmatch(rf"(last|first|spread)-(\d{{1,{DIGITS}}})", place)
    if found is None:
        raise SettingError(f"Expected the layers of a fault as {PLACES}, got {place!r}.")
    count = int(found[2])
    if not 1 <= count <= len(layers):
        raise SettingError(f"Expected from 1 to {len(layers)} layers (the model's MoE layers), got {place!r}.")
    if found[1] == "spread":  # as far apart as they can be, the middle ones of equal parts
        return tuple(layers[(2 * i + 1) * len(layers) // (2 * count)] for i in range(count))
    return tuple(layers[:count] if found[1] == "first" else layers[-count:])


def concerns_of(kinds: Mapping[Any, str | Sequence[str]]) -> tuple[tuple[int, str], ...]:
    """Experts, each with a kind that it is for, from one or several kinds by expert."""
    by_expert = ((int(expert), [of] if isinstance(of, str) else of) for expert, of in kinds.items())
    return tuple(sorted((expert, str(kind)) for expert, of in by_expert for kind in of))


def fault_of(values: Mapping[str, Any]) -> Fault:
    """A fault of plain values, as ``Fault.values`` gives them.

    Raises:
        SettingError: a value that cannot be.
    """
    concerns = concerns_of(values.get("concerns", {}))
    pairs = tuple((int(a), int(b)) for a, b in values.get("pairs", ()))
    layers, experts = (tuple(map(int, values.get(name, ()))) for name in ("layers", "experts"))
    return Fault(values["kind"], layers, pairs, experts, values["dose"], values["seed"], concerns)
