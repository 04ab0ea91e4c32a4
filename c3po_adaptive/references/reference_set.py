"""Reference sets: labeled questions run along the model's own pathway, with a flag whether it answered them right.

Retrieval takes the successful ones; controls, calibration and learned selectors need the others too. On disk a set is a
folder: ``card.json``, ``questions.parquet`` and ``tensors.safetensors``, each written whole or not at all. The card has
the hashes of the others: where another set took the place of one in part alone, that is found out when it is read.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from ..errors import DataError
from ..models.fingerprint import fingerprint, settings_identity
from ..models.names import public_name
from ..storage.files import is_file
from ..storage.folders import cache_folder
from ..storage.hub import OnHub
from ..storage.identity import digest, digest_of_file
from ..storage.json_files import Ours, checked, read_json
from ..storage.tables import read_table
from ..storage.tensors import load_tensors, save_tensors
from ..tasks.formats import Format, format_key
from ..tasks.same_questions import SameQuestions
from ..types import OPTIONAL, Question
from .agreement import suspicion

if TYPE_CHECKING:
    from ..models.routed import RoutedModel
    from ..retrievers.base import Index, Retriever
    from ..settings import RemixSettings
    from .embedding import Embedder

CARD, QUESTIONS, TENSORS = "card.json", "questions.parquet", "tensors.safetensors"
INDEX, WARM = "index", "warm"
"""Folders beside them: what retrievers keep, and the prefill store."""
SHOWN = 8
"""Letters of a fingerprint that tell models of one name apart for people."""
REBUILD = "build the set again: c3po refset build FILE --model MODEL --out DIR"


class ReferenceSetCard(Ours):
    """the card of a reference set"""

    source: str
    model: str
    format: str
    embedder: dict[str, str]
    files: dict[str, str]
    settings: str | None = None
    model_name: str | None = None
    dtype: str | None = None
    revision: str | None = None
    layers: list[int] | None = None
    versions: dict[str, str] | None = None

    @model_validator(mode="after")
    def _hashed(self) -> Self:
        if sorted(self.files) != [QUESTIONS, TENSORS]:
            raise ValueError(f"files: hashes of {QUESTIONS} and {TENSORS} alone")
        return self


@dataclass(frozen=True, eq=False)
class ReferenceSet(OnHub):
    """N labeled questions of one model.

    Attributes:
        questions: the questions, answers known.
        embeddings: ``[N, D]`` of their descriptions.
        pathways: ``[N, L, E]`` the model's own, ω_i, as weights.
        routers: ``[N, L, E]`` the same as router distributions.
        scores: the model's normalized log-likelihood of each choice.
        correct: ``[N]`` bool, answered right along the own pathway.
        card: where it comes from, as ``ReferenceSetCard`` has it, and counts: ``questions``, ``successes`` and
            ``success_rate``.
        folder: where it was read from, or saved to.
    """

    questions: tuple[Question, ...]
    embeddings: Tensor
    pathways: Tensor
    routers: Tensor
    scores: tuple[tuple[float, ...], ...]
    correct: Tensor
    card: dict[str, Any]
    folder: Path | None = None
    repo_type: ClassVar[Literal["dataset"]] = "dataset"
    files: ClassVar[tuple[str, ...]] = (CARD, QUESTIONS, TENSORS)

    def __len__(self) -> int:
        return len(self.questions)

    def __repr__(self) -> str:
        of = self.card.get("model_name") or "an unknown model"
        return f"ReferenceSet({len(self)} questions, {int(self.correct.sum())} answered right, of {of})"

    @property
    def artifacts_folder(self) -> Path | None:
        """Where what each reference teaches by itself is stored: beside the set, or, of all sets in the cache, in one
        place, as many of them share references."""
        shared = cache_folder() / "refsets"
        return shared if self.folder is not None and self.folder.parent == shared else self.folder

    @cached_property
    def successes(self) -> ReferenceSet:
        """Those answered right alone, C3PO's reference set, with what is stored beside the whole one."""
        return replace(self.subset(self.correct.nonzero().squeeze(1)), folder=self.folder)

    @cached_property
    def consistent(self) -> ReferenceSet:
        """Those whose answers their nearest ones do not vote against, with what is stored beside the whole set.

        Raises:
            DataError: there are none.
        """
        rows = torch.from_numpy(suspicion(self.questions, self.vectors) <= 0).nonzero().squeeze(1)
        if len(rows) == 0:
            raise DataError(
                f"Expected references that their nearest ones agree with, got none among {len(self)}; look at them by "
                "c3po refset check --suspects, or set learn_from to all."
            )
        return replace(self.subset(rows), folder=self.folder)

    def subset(self, rows: Tensor) -> ReferenceSet:
        """The references of some rows, in that order; of no folder."""
        picked = rows.tolist()
        return replace(
            self,
            questions=tuple(self.questions[i] for i in picked),
            embeddings=self.embeddings[rows],
            pathways=self.pathways[rows],
            routers=self.routers[rows],
            scores=tuple(self.scores[i] for i in picked),
            correct=self.correct[rows],
            folder=None,
        )

    def shuffled(self, seed: int) -> ReferenceSet:
        """The same with right choices drawn at random: a control."""
        drawn = tuple(
            replace(q, answer=random.Random(f"{seed} {q.id}").randrange(len(q.choices))) for q in self.questions
        )
        return replace(self, questions=drawn)

    def labeled_by(self, settings: RemixSettings) -> ReferenceSet:
        """The same with the right choices that the settings say: its own, or the control's."""
        return self if settings.labels == "own" else self.shuffled(settings.seed)

    def candidates(self, settings: RemixSettings) -> ReferenceSet:
        """Those that may be neighbours: all of them, the successes, or those that are consistent."""
        labeled = self.labeled_by(settings)
        if settings.learn_from == "all":
            return labeled
        return labeled.successes if settings.learn_from == "successful" else labeled.consistent

    @cached_property
    def same(self) -> SameQuestions:
        """Finds the references that repeat a question."""
        return SameQuestions(self.questions)

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """``[N, D]`` the embeddings as retrievers and kernels get them: to be read, writing is an error."""
        shown: NDArray[np.float32] = self.embeddings.numpy().view()
        shown.flags.writeable = False
        return shown

    def index(self, retriever: Retriever) -> Index:
        """A retriever fitted to the embeddings, once; stored beside the set if it is in a folder."""
        if retriever not in self._indexes:
            vectors = self.vectors
            place = None if self.folder is None else self.folder / INDEX
            self._indexes[retriever] = retriever.fit(vectors) if place is None else retriever.fit_kept(vectors, place)
        return self._indexes[retriever]

    @cached_property
    def learned(self) -> dict[str, Mapping[str, Tensor]]:
        """What strategies learned from these references, by a hash of who learned it and how."""
        return {}

    @cached_property
    def stores(self) -> dict[Hashable, Any]:
        """Prefill stores that were opened, by model, format and budget."""
        return {}

    @cached_property
    def _indexes(self) -> dict[Retriever, Index]:
        return {}

    def check(self, model: RoutedModel, format: str | Format, embedder: Embedder) -> None:
        """Raise DataError unless the set was built with this model, format and embedder and holds a success."""
        of_embedder = {"name": embedder.name, "revision": embedder.revision}
        if (built := self.card["model"]) != (own := fingerprint(model)):
            whose = self.card.get("model_name") or "another model"
            raise DataError(
                f"Expected a reference set built with model {public_name(model.name)} ({own[:SHOWN]}), got one built "
                f"with {whose} ({built[:SHOWN]}); name the model that it is of, or {REBUILD}."
            )
        if self.card.get("settings") not in (None, settings_identity(model)):
            raise DataError(
                f"Expected a reference set built with the configuration and tokenizer of {public_name(model.name)}, "
                f"got one built with others; load the original model, or {REBUILD}."
            )
        wanted = {"format": format_key(format), "embedder": of_embedder}
        for key, expected in wanted.items():
            if (built := self.card[key]) != expected:
                raise DataError(
                    f"Expected a reference set built with {key} {expected!r}, got one built with {built!r}; {REBUILD}."
                )
        if self.pathways.shape[1:] != (len(model.layers), model.n_experts):
            raise DataError(
                f"Expected pathways [N, L, E] with L, E = {len(model.layers), model.n_experts}, got "
                f"{tuple(self.pathways.shape[1:])}; {REBUILD}."
            )
        if len(self.successes) == 0:
            raise DataError(
                f"Expected references that the model answers right, got none among {len(self)}: there is no successful "
                "pathway to learn from; use easier references or another format."
            )

    def save(self, folder: str | Path) -> Path:
        """Write the set as a folder; ``save_pretrained`` adds a card for people.

        Args:
            folder: as there. What is stored beside a set (``warm``, ``index``) is found there by what it was made from:
                another's is not used.

        Raises:
            DataError: as there.
        """
        return self._placed(folder, self.files, self._write)

    def _write(self, folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [
            q.row()
            | {"choices": list(q.choices), "scores": list(s), "correct": bool(c)}
            | {"images": [picture.png() for picture in q.pictures]}
            for q, s, c in zip(self.questions, self.scores, self.correct.tolist(), strict=True)
        ]
        extra = {name: True for name in OPTIONAL if any(getattr(q, name) for q in self.questions)}
        tensors = {name: getattr(self, name).contiguous() for name in ("embeddings", "pathways", "routers")}
        pq.write_table(pa.Table.from_pylist(rows, _schema(extra)), folder / QUESTIONS)
        save_tensors(tensors, folder / TENSORS)
        hashes = {name: digest_of_file(folder / name) for name in (QUESTIONS, TENSORS)}
        card = self.card | {"files": hashes} | extra
        (folder / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")

    @classmethod
    def _owns(cls, folder: Path) -> bool:
        if folder.parent == cache_folder() / "refsets":  # a broken one is built anew
            return True
        with suppress(DataError):
            checked(ReferenceSetCard, read_json(folder / CARD, REBUILD), str(folder / CARD), REBUILD)
            return True
        return False

    @classmethod
    def _read(cls, folder: Path) -> ReferenceSet:
        return cls.load(folder)

    @classmethod
    def _fetched(cls, folder: Path) -> ReferenceSet:
        """Copied to our own cache, where what is computed later can be stored beside it."""
        read = cls.load(folder)
        place = cache_folder() / "refsets" / digest(read.card)[:20]
        with suppress(DataError):  # not yet, or a broken one
            return cls.load(place)
        return replace(read, folder=read.save(place))

    @classmethod
    def load(cls, folder: str | Path) -> ReferenceSet:
        """Read a set back, its files checked against the card.

        Raises:
            DataError: not a reference set, or a file is missing, cut short or altered.
        """
        folder, what = Path(folder), "the questions of a reference set"
        if not is_file(folder / CARD):
            raise DataError(f"Expected a reference set (a folder with {CARD}) at {folder}; {REBUILD}.")
        card = checked(ReferenceSetCard, read_json(folder / CARD, REBUILD), str(folder / CARD), REBUILD)
        for name, expected in card.files.items():
            if not is_file(folder / name) or digest_of_file(folder / name) != expected:
                raise DataError(f"{folder / name} is missing, cut short or altered; {REBUILD}.")
        extra = [name for name in OPTIONAL if (card.model_extra or {}).get(name)]
        table = read_table(folder / QUESTIONS, _schema(extra), what, REBUILD)
        try:
            rows = table.to_pylist()
        except (ValueError, OverflowError) as error:  # text that is none, and dates that Python has not
            raise DataError(f"Expected {what} at {folder / QUESTIONS}, got {error}; {REBUILD}.") from error
        records = [checked(_Row, row, f"{folder / QUESTIONS}, row {i}", REBUILD) for i, row in enumerate(rows)]
        if len({row.id for row in records}) < len(records):
            raise DataError(f"{folder / QUESTIONS}: expected each id once, got some again; {REBUILD}.")
        embeddings, pathways, routers = _tensors(folder / TENSORS, len(records))
        return cls(
            tuple(row.question_record for row in records),
            embeddings,
            pathways,
            routers,
            tuple(row.scores for row in records),
            torch.tensor([row.correct for row in records], dtype=torch.bool),
            card.model_dump(exclude_unset=True),
            folder,
        )


def _schema(extra: Collection[str]) -> Any:
    """Arrow's type of each column of the questions; of those that not every question has, the ones in ``extra``."""
    import pyarrow as pa

    texts = dict.fromkeys(("id", "question", "task", "subject", "split", "about"), pa.string())
    kinds = texts | {"choices": pa.list_(pa.string()), "answer": pa.int64()}
    kinds |= {"scores": pa.list_(pa.float64()), "correct": pa.bool_(), "images": pa.list_(pa.binary())}
    return pa.schema([(name, kinds[name]) for name in _Row.model_fields if name in extra or name not in OPTIONAL])


def is_reference_set(folder: str | Path) -> bool:
    """Whether a folder is one of a reference set, if perhaps a broken one."""
    return any(is_file(Path(folder) / name) for name in (CARD, TENSORS))


class _Row(Ours):
    """a reference's row"""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    task: str = ""
    subject: str = ""
    split: str = ""
    scores: tuple[float, ...]
    correct: bool
    images: tuple[bytes, ...] = ()
    about: str | None = None

    @model_validator(mode="after")
    def _scored(self) -> Self:
        if len(self.scores) != len(self.choices) or len(self.choices) < 2:
            raise ValueError(f"{len(self.scores)} scores for {len(self.choices)} choices, two at least")
        if self.answer not in range(len(self.choices)):
            raise ValueError(f"answer {self.answer} of {len(self.choices)} choices")
        if not all(map(math.isfinite, self.scores)):
            raise ValueError("scores that are not finite")
        return self

    @property
    def question_record(self) -> Question:
        """The reference as a question."""
        values = (self.id, self.question, self.choices, self.answer, self.task, self.subject, self.split)
        return Question(*values, self.images, self.about or "")


_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def _tensors(path: Path, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings ``[N, D]``, and pathways and routers ``[N, L, E]``."""
    tensors = load_tensors(path, REBUILD)
    wanted = (("embeddings", 2), ("pathways", 3), ("routers", 3))
    embeddings, pathways, routers = (
        _tensor(tensors.get(name), f"{path}: expected {name}", count, axes) for name, axes in wanted
    )
    if (pathways < 0).any() or (routers < 0).any() or not embeddings.any(-1).all():
        raise DataError(f"{path}: expected pathways >= 0 and embeddings with a direction, got others; {REBUILD}.")
    if pathways.shape != routers.shape:
        raise DataError(f"{path}: expected pathways and routers of one shape, got others; {REBUILD}.")
    return embeddings.float(), pathways.float(), routers.float()


def _tensor(found: Tensor | None, expected: str, count: int, axes: int) -> Tensor:
    if (
        found is None
        or found.dtype not in _DTYPES
        or found.ndim != axes
        or len(found) != count
        or not found.isfinite().all()
    ):
        shape = "none" if found is None else f"{tuple(found.shape)}"
        raise DataError(f"{expected} of {count} references, finite and with {axes} axes, got {shape}; {REBUILD}.")
    return found
