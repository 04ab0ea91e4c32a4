"""Questions of the bed by name: what experts learned, in their words or others, and what was kept from them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os.path import isdir, isfile
from pathlib import Path

from c3po_adaptive import DataError, Question, UnknownNameError, load_questions
from c3po_adaptive.errors import suggestion
from c3po_adaptive.tasks import DEMO_SPLITS

from .expert_families import LEARNED, SIBLINGS
from .hub_kinds import HUB
from .hub_questions import fresh, from_hub
from .kinds import KINDS, UNKNOWN
from .wording import reworded, wordings

FOLDER = "C3PO_BED"
"""Environment variable with the folder of the bed's files, ``KIND.SPLIT.jsonl``."""
BED = "bed:"
"""What the bed's questions are called by."""
LIST = "docs/reference/bed.md"
"""Where the kinds are listed."""
REWORDED = "reworded"
CASES = ("seen", REWORDED, "sibling", "unknown", "all")
SPLITS = (*DEMO_SPLITS, "train")
"""``train`` is what experts learn from; they never see the others."""


def cases() -> Mapping[str, Sequence[str]]:
    """Kinds by what is asked of a model that experts were learned for: the same kinds, the same in other words, others
    of the same families, and families that none learned."""
    others = [kind for kind, wording in wordings().items() if wording.anew]
    return dict(zip(CASES, ([*LEARNED], others, [*SIBLINGS], UNKNOWN, [*KINDS]), strict=True))


class Bed:
    """The source of questions ``bed:NAME`` (``c3po_adaptive.sources``)."""

    sets = CASES

    def __call__(self, name: str, *, split: str | None, usual: Sequence[str]) -> Iterator[tuple[str, Question]]:
        """Questions of the bed; each one's task and subject are its kind.

        Args:
            name: ``seen``, ``reworded``, ``sibling``, ``unknown``, ``all``; a kind (see ``KINDS``); or several of these
                with commas between them.
            split: ``references``, ``validation``, ``test``; or ``train``, of kinds that experts learned, from files
                alone.
            usual: splits of which the first that the bed has is taken where none is named.

        From the folder that ``$C3PO_BED`` names; where it is not set, the Hub's data sets (``HUB``). Of several kinds
        those that the Hub has not are left out then, with a warning that names them.

        Yields:
            Where each is from, and the question.

        Raises:
            UnknownNameError: no case or kind of that name.
            DataError: no such split, a file that is missing or broken, or a kind that is in files alone without a
                folder.
            ArtifactError: the library ``datasets`` is needed, and not installed.
        """
        kinds = dict.fromkeys((kind, part == REWORDED) for part in name.split(",") for kind in _kinds_of(part))
        split = split if split is not None else next((one for one in usual if one in SPLITS), None)
        if split is None or split not in SPLITS:
            hint = suggestion(str(split), SPLITS, f"write {BED}{name}:test.")
            raise DataError(f"{BED}{name}: expected a split, got {split!r}; {hint}")
        if split == "train" and (kept := [kind for kind, _ in kinds if kind not in LEARNED]):
            raise DataError(
                f"{BED}{name}: expected kinds that experts learn for the split 'train', got {kept[0]} and "
                f"{len(kept) - 1} others that are kept apart; take references."
            )
        there = set(_there(name, [*dict.fromkeys(kind for kind, _ in kinds)], split))
        for kind, anew in kinds:
            for question in _of_kind(kind, split) if kind in there else ():
                yield f"{BED}{kind}:{split}", reworded(question) if anew else question


source = Bed()


def _kinds_of(name: str) -> Sequence[str]:
    """The kinds of a case, or the one of that name.

    Raises:
        UnknownNameError: there is none.
    """
    known = cases()
    if name not in known and name not in KINDS:
        hint = suggestion(name, [*known, *KINDS], f"the cases are {', '.join(known)}.", f"in {LIST}")
        raise UnknownNameError(f"Expected a case or a kind of the bed after {BED}, got {name!r}; {hint}")
    return known.get(name, (name,))


def _there(name: str, kinds: Sequence[str], split: str) -> Sequence[str]:
    """Kinds that can be had: all from a folder; else those that the Hub has."""
    if os.environ.get(FOLDER):
        return kinds
    there = [kind for kind in kinds if kind in HUB and split != "train"]
    if not there:
        raise DataError(
            f"{BED}{name}: expected the folder of the bed's files in ${FOLDER}, as {kinds[0]}.{split}.jsonl is in "
            f"files alone; set it, or ask for {', '.join(DEMO_SPLITS)} of a kind that the Hub has, such as "
            f"{BED}{next(iter(HUB))}."
        )
    if missing := [kind for kind in kinds if kind not in there]:
        left = f"{missing[0]}, in files alone, is" if len(missing) == 1 else f"{len(missing)} in files alone are"
        warnings.warn(
            f"{BED}{name}: {len(there)} of {len(kinds)} kinds come from the Hub; {left} left out, as ${FOLDER} is not "
            f"set; {LIST} lists which.",
            stacklevel=5,
        )
    return there


def _of_kind(kind: str, split: str) -> list[Question]:
    folder = os.environ.get(FOLDER)
    found = _from_folder(Path(folder), kind, split) if folder else from_hub(kind, split)
    return [replace(question, task=kind, subject=kind, split=split) for question in found]


def _from_folder(folder: Path, kind: str, split: str) -> list[Question]:
    file = folder / f"{kind}.{split}.jsonl"
    if not isfile(file):
        what = "no folder" if not isdir(folder) else "no such file in it"
        raise DataError(f"Expected {file.name} in the folder {folder} (${FOLDER}), but there is {what}; mend the path.")
    return load_questions(file) if split == "train" else fresh(kind, load_questions(file))
