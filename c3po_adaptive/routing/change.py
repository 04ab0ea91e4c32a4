"""A change of routing, as rules make it and interception carries it out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Change:
    """Other routing for some rows.

    Attributes:
        rows: ``[r]`` which; None: all.
        index: ``[r, n]`` their experts, short rows filled up.
        weights: ``[r, n]`` of these experts, zero where filled up.
        used: ``[r]`` how many of the n experts are no filling; None: all of them.
    """

    rows: Tensor | None
    index: Tensor
    weights: Tensor
    used: Tensor | None = None
