"""How experts are used: load, entropy, and what they tell of the kind of question. Counts are ``[N, L, E]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .records import Shared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

DRAWS = 20
"""So often kinds are drawn at random: what so many questions seem to share by chance."""


def loads(used: Sequence[Sequence[Sequence[int]]]) -> Floats:
    """``[N, L, E]`` each question's share of tokens by expert, summing to one in each layer."""
    import numpy as np

    counts = np.asarray(used, float)
    shares: Floats = counts / counts.sum(-1, keepdims=True).clip(min=1)
    return shares


def evenness(load: Floats) -> float:
    """Entropy of ``load [E]`` as a share of that of an even one; 0 of a single expert."""
    import numpy as np

    return float(_entropy(load) / np.log(len(load))) if len(load) > 1 else 0.0


def shared_with_kinds(shares: Floats, kinds: Sequence[str], seed: int) -> list[Shared]:
    """For each layer what its experts ``shares [N, L, E]`` tell of the kinds of N questions, each question alike."""
    import numpy as np

    names = sorted(set(kinds))
    member = np.zeros((len(kinds), len(names)))
    member[range(len(kinds)), [names.index(kind) for kind in kinds]] = 1
    rng = np.random.default_rng(seed)
    found = _information(shares, member)
    drawn = np.mean([_information(shares, rng.permutation(member)) for _ in range(DRAWS)], 0)
    return [Shared(share=float(a), by_chance=float(b)) for a, b in zip(found, drawn, strict=True)]


def _information(shares: Floats, member: Floats) -> Floats:
    """``[L]`` mutual information of kind and expert over the smaller of their entropies; 0 where either has none."""
    import numpy as np

    joint = np.einsum("nle,nk->lke", shares, member) / len(shares)
    joint = joint / joint.sum((1, 2), keepdims=True)
    of_expert, of_kind = _entropy(joint.sum(1)), _entropy(joint.sum(2))
    both = of_expert + of_kind - _entropy(joint.reshape(len(joint), -1))
    least = np.minimum(of_expert, of_kind)
    share: Floats = np.divide(both, least, out=np.zeros_like(both), where=least > 1e-12).clip(0, 1)
    return share


def _entropy(shares: Floats) -> Floats:
    """In nats, over the last axis."""
    from scipy.special import entr

    total: Floats = entr(shares).sum(-1)
    return total
