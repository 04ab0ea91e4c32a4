"""How load is spread over the experts of each layer, with its error over texts, summed up text by text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .use import evenness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

HOT = 0.8
"""The share of the load that hot experts take."""


@dataclass(frozen=True, eq=False)
class ExpertLoad:
    """What some tokens of a set ask of the experts. A token that uses k experts of a layer counts once for each.

    Attributes:
        texts: how many the tokens are of.
        tokens: how many there are.
        counts: ``[L, E]`` tokens that use each expert.
        errors: ``[L, E]`` standard error of its load, as other texts would have given another: tokens of one text are
            no independent draws. NaN of a single text.
    """

    texts: int
    tokens: int
    counts: Floats
    errors: Floats

    def __repr__(self) -> str:
        """In a line, without the counts."""
        L, E = self.counts.shape
        hot = sum(map(len, self.hot)) / max(L, 1)
        return f"ExpertLoad({self.size}, {L} layers × {E} experts, of which {hot:.1f} take {100 * HOT:.0f} %)"

    @property
    def size(self) -> str:
        """How many texts and tokens, in words."""
        each = {"text": self.texts, "token": self.tokens}
        return ", ".join(f"{n} {what}{'' if n == 1 else 's'}" for what, n in each.items())

    @property
    def load(self) -> Floats:
        """``[L, E]`` each expert's share of all that is asked of its layer, summing to one; zero of an unused layer."""
        shares: Floats = self.counts / self.counts.sum(-1, keepdims=True).clip(min=1)
        return shares

    @property
    def margins(self) -> Floats:
        """``[L, E]`` half the 95 % interval of each load, over texts (Student's t). NaN of a single text."""
        from scipy.stats import t

        wide: Floats = self.errors * (t.ppf(0.975, self.texts - 1) if self.texts > 1 else 1)
        return wide

    @property
    def evenness(self) -> tuple[float, ...]:
        """Of each layer the entropy of its load over that of an even one: 1 if all experts are used alike, 0 if one
        takes all."""
        return tuple(evenness(row) for row in self.load)

    @property
    def hot(self) -> tuple[tuple[int, ...], ...]:
        """Of each layer the fewest experts that together take ``HOT`` of the load, the busiest first."""
        return tuple(_hottest(row) for row in self.load)


def _hottest(load: Floats) -> tuple[int, ...]:
    order = (-load).argsort(kind="stable")
    if not load.any():
        return ()
    enough = int((load[order].cumsum() < HOT - 1e-9).sum()) + 1
    return tuple(order[:enough].tolist())


@dataclass(eq=False)
class LoadSums:
    """Sums over texts, of a size that does not grow with them.

    Attributes:
        texts: how many there were.
        tokens: of all of them.
        counts: ``[L, E]``.
        squares: ``[L, E]`` sums of squares of each text's counts.
        products: ``[L, E]`` sums of a text's count times all that it asks of the layer.
        sizes: ``[L]`` sums of squares of that.
    """

    layers: int
    experts: int
    texts: int = 0
    tokens: int = 0
    counts: Floats = field(init=False)
    squares: Floats = field(init=False)
    products: Floats = field(init=False)
    sizes: Floats = field(init=False)

    def __post_init__(self) -> None:
        import numpy as np

        self.counts = np.zeros((self.layers, self.experts), np.int64)
        self.squares, self.products = (np.zeros((self.layers, self.experts)) for _ in range(2))
        self.sizes = np.zeros(self.layers)

    def add(self, counts: Floats, tokens: int) -> None:
        """One text's tokens that use each expert, ``[L, E]``, and how many tokens these are; none is no text."""
        if not tokens:
            return
        asked = counts.sum(-1, keepdims=True).astype(float)
        self.texts, self.tokens = self.texts + 1, self.tokens + tokens
        self.counts += counts
        self.squares += counts.astype(float) ** 2
        self.products += counts * asked
        self.sizes += asked[:, 0] ** 2

    def without(self, others: LoadSums) -> LoadSums:
        """What is left when some of the texts, or of their tokens, are taken out."""
        left = LoadSums(self.layers, self.experts, self.texts - others.texts, self.tokens - others.tokens)
        for name in ("counts", "squares", "products", "sizes"):
            setattr(left, name, getattr(self, name) - getattr(others, name))
        return left

    @property
    def load(self) -> ExpertLoad:
        """The load so far; its errors are those of a ratio of sums over texts (linearized)."""
        import numpy as np

        total = self.counts.sum(-1, keepdims=True)
        share = self.counts / total.clip(min=1)
        spread = self.squares - 2 * share * self.products + share**2 * self.sizes[:, None]
        n = self.texts
        errors = np.sqrt(n / (n - 1) * spread.clip(min=0)) / total.clip(min=1) if n > 1 else share * np.nan
        return ExpertLoad(n, self.tokens, self.counts.copy(), errors)
