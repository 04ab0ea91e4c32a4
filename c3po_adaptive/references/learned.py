"""What is learned from references, once: cached in memory, and beside the set; and whether what lies there is whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import DataError
from ..models.fingerprint import numbers_of
from ..storage.checksummed import checksummed_files, verify_checksum
from ..storage.identity import digest
from ..storage.kept import AGAIN, NAMED_TENSORS, code_of, kept, short_digest
from ..tasks.formats import Format, format_key
from .artifacts import ARTIFACTS
from .reference_set import INDEX, WARM, ReferenceSet

if TYPE_CHECKING:
    from ..models.routed import RoutedModel

LEARNED = "learned"
"""The folder beside a set."""


def learned_once(
    references: ReferenceSet, identity: Any, learn: Callable[[], Mapping[str, Tensor]]
) -> Mapping[str, Tensor]:
    """What ``learn`` finds, or found before.

    Args:
        references: that it is learned from.
        identity: all that decides what is learned beside the references, as JSON has it.
        learn: called if nothing is stored under that identity.

    Raises:
        DataError: what is stored is cut short or altered.
    """
    whole = [identity, _content(references)]
    known, folder = references.learned, references.folder
    if (key := short_digest(whole)) not in known:
        known[key] = learn() if folder is None else kept(folder / LEARNED, whole, learn, NAMED_TENSORS)
    return known[key]


def deciding(
    references: ReferenceSet,
    strategies: Sequence[Any],
    code: Sequence[Any],
    model: RoutedModel,
    format: str | Format,
    settings: Mapping[str, Any],
    asked: Sequence[Any],
) -> list[Any]:
    """What decides what strategies learn from references, as ``learned_once`` takes it.

    Args:
        references: that they learn from.
        strategies: the learner, and those that references are asked with.
        code: functions and classes that decide beside the strategies' own.
        model: that is asked.
        format: how references are put.
        settings: by name, those that matter.
        asked: what of the references is not learned from.

    Raises:
        NoSource: a strategy's or a function's code stands in no file.
    """
    known = [format_key(format), settings, asked, references.card.get("source"), numbers_of(model)]
    return [*map(repr, strategies), code_of(*strategies, *code), *known]


def _content(references: ReferenceSet) -> str:
    """Hash of all that can be learned from."""
    asked = [
        (q.id, q.question, q.choices, q.answer, *(picture.digest for picture in q.pictures))
        for q in references.questions
    ]
    tensors = (
        references.embeddings.float(),
        references.pathways.float(),
        references.routers.float(),
        references.correct,
    )
    return digest([asked, references.scores, [sha256(t.contiguous().numpy().data).hexdigest() for t in tensors]])


def damaged_beside(references: ReferenceSet) -> list[str]:
    """What is wrong with each file beside a set that would be refused when it is read."""
    shared, own = references.artifacts_folder, references.folder
    folders = [own / name for name in (LEARNED, INDEX, WARM)] if own is not None else []
    folders += [shared / ARTIFACTS] if shared is not None else []
    found = []
    for path in (path for folder in folders for path in checksummed_files(folder)):
        try:
            verify_checksum(path, AGAIN)
        except DataError as error:
            found.append(str(error))
    return found
