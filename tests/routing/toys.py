"""Questions, an embedder and reference sets for tests that need no sense in them."""

import hashlib
from functools import cache

import numpy as np
from routing.naive import shared_model

from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.types import Question

_WORDS = ["boat", "stone", "wood", "iron", "cork", "leaf", "sand", "glass", "wool", "milk", "rope", "salt"]


def questions(count: int, prefix: str = "r") -> list[Question]:
    """Labeled questions of two to four choices of different length."""
    made = []
    for i in range(count):
        n = 2 + i % 3
        choices = tuple(f"{_WORDS[(i + 5 * c) % 12]}{'s' * c}" for c in range(n))
        made.append(
            Question(f"{prefix}{i}", f"{prefix}: where is {_WORDS[i % 12]} {i * i}?", choices, i % n, task="toy")
        )
    return made


class HashEmbedder:
    """Unit vectors ``[N, 16]`` settled by a text's letters and digits alone: without them, a duplicate."""

    name = "hash"
    revision = "1"

    def encode(self, texts):
        seeds = [hashlib.sha256("".join(filter(str.isalnum, t.lower())).encode()).digest()[:4] for t in texts]
        rows = [np.random.default_rng(list(seed)).normal(size=16) for seed in seeds]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32).reshape(-1, 16)

    def flops(self, text):
        return 10.0 * len(text)


@cache
def reference_set(family: str) -> ReferenceSet:
    return build_reference_set(shared_model(family), questions(24), HashEmbedder())
