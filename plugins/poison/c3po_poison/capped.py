"""No reference counts for more than a share of all: the kernel ``capped``, a wrapper around any other.

A text that was written to lie next to a question outweighs all others by a narrow kernel. What it saves, and what it
costs where nobody wrote any: ``studies/poisoned``.

Try it: ``c3po demo --arm capped`` (NGD on neighbours weighed by it).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, InstanceOf

from c3po_adaptive import (
    Kernel,
    QuestionFeatures,
    ReferenceFeatures,
    as_part_says,
    default_registry,
    hookimpl,
)

Array = NDArray[Any]


def _gaussian() -> Kernel:
    made: Kernel = default_registry().create("kernel", "gaussian")
    return made


@dataclass(frozen=True)
class Capped(Kernel):
    """The values of another kernel, of which no neighbour gets more than a share of a question's weight.

    What is above the cap is shared out to the others in proportion, until none is above it; where there are fewer
    neighbours than the cap allows for, all of them count alike. As weights of importance are clipped (Ionides 2008, J.
    Comput. Graph. Stat. 17:295).

    Attributes:
        of: whose values these are.
        cap: the largest share.
    """

    of: InstanceOf[Kernel] = field(default_factory=_gaussian)
    cap: Annotated[float, Field(gt=0, le=1)] = 0.1
    name: ClassVar[str] = "capped"
    learns = as_part_says("learns")
    varies = as_part_says("varies")

    def prepare(self, references: ReferenceFeatures) -> Self:
        return replace(self, of=self.of.prepare(references))

    def __call__(self, x: Array, y: Array) -> Array:
        return self.of(x, y)

    def between(self, x: QuestionFeatures, y: QuestionFeatures) -> Array:
        return self.of.between(x, y)

    def shares(self, values: Array) -> Array:
        return capped(self.of.shares(values), self.cap)


def capped(shares: Array, cap: float) -> Array:
    """``[m]`` shares, none above the cap; even ones where there are fewer than 1 / cap that are not zero."""
    some = shares > 0
    if cap * some.sum() <= 1:
        return np.where(some, 1 / max(1, some.sum()), 0.0)
    found, full = shares.astype(float), np.zeros(len(shares), bool)
    while (found > cap * (1 + 1e-12)).any():
        full |= found > cap * (1 - 1e-12)
        rest = np.where(full, 0.0, shares)
        found = np.where(full, cap, rest * (1 - cap * full.sum()) / rest.sum())
    return found


@hookimpl
def register_kernels() -> list[type[Kernel]]:
    return [Capped]
