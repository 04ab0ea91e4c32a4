"""What is learned from references, once: kept in memory, and beside the set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from torch import Tensor

from ..storage.identity import digest
from ..storage.kept import NAMED_TENSORS, kept, short_digest
from .reference_set import ReferenceSet

LEARNED = "learned"
"""The folder beside a set."""


def learned_once(
    references: ReferenceSet, identity: Any, learn: Callable[[], Mapping[str, Tensor]]
) -> Mapping[str, Tensor]:
    """What ``learn`` finds, or found before.

    Args:
        references: that it is learned from.
        identity: all that decides what is learned beside the references, as JSON has it.
        learn: called if nothing is kept under that identity.

    Raises:
        DataError: what is kept is cut short or altered.
    """
    whole = [identity, _content(references)]
    known, folder = references.learned, references.folder
    if (key := short_digest(whole)) not in known:
        known[key] = learn() if folder is None else kept(folder / LEARNED, whole, learn, NAMED_TENSORS)
    return known[key]


def _content(references: ReferenceSet) -> str:
    """Hash of all that can be learned from."""
    asked = [
        (q.id, q.question, q.choices, q.answer, *(picture.digest for picture in q.pictures))
        for q in references.questions
    ]
    tensors = (references.embeddings.float(), references.pathways.float(), references.correct)
    return digest([asked, references.scores, [sha256(t.contiguous().numpy().data).hexdigest() for t in tensors]])
