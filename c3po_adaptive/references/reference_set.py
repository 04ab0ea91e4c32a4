"""Reference sets: labeled questions run along the model's own pathway, with a flag whether it answered them right.

Retrieval takes the successful ones; controls, calibration and learned selectors need the others too. On disk a set is a
folder: ``questions.parquet``, ``tensors.safetensors`` and ``card.json``, written whole or not at all.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import DataError
from ..models.identity import fingerprint
from ..storage.files import whole
from ..storage.identity import digest_of_file
from ..storage.tensors import load_tensors, save_tensors
from ..tasks.formats import Format, current_key, format_key
from ..types import Question

if TYPE_CHECKING:
    from ..models.routed import RoutedModel
    from ..retrievers.base import Index, Retriever
    from ..settings import RemixSettings
    from .embedding import Embedder

QUESTIONS, TENSORS, CARD = "questions.parquet", "tensors.safetensors", "card.json"
REBUILD = "build the set again: c3po refset build FILE --model MODEL --out DIR"


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """N labeled questions of one model.

    Attributes:
        questions: the questions, answers known.
        embeddings: ``[N, D]`` of their descriptions.
        pathways: ``[N, L, E]`` the model's own, ω_i.
        scores: the model's normalized log-likelihood of each choice.
        correct: ``[N]`` bool, answered right along the own pathway.
        card: where it comes from: counts, hashes, model, embedder, format, versions.
        folder: where it was read from, or saved to.
    """

    questions: tuple[Question, ...]
    embeddings: Tensor
    pathways: Tensor
    scores: tuple[tuple[float, ...], ...]
    correct: Tensor
    card: dict[str, Any]
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.questions)

    @cached_property
    def successes(self) -> ReferenceSet:
        """Those answered right alone, C3PO's reference set, with what is kept beside the whole one."""
        return replace(self.subset(self.correct.nonzero().squeeze(1)), folder=self.folder)

    def subset(self, rows: Tensor) -> ReferenceSet:
        """The references of some rows, in that order; of no folder."""
        picked = rows.tolist()
        return replace(
            self,
            questions=tuple(self.questions[i] for i in picked),
            embeddings=self.embeddings[rows],
            pathways=self.pathways[rows],
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
        """Those that may be neighbours: all of them, or the successes."""
        labeled = self.labeled_by(settings)
        return labeled.successes if settings.learn_from == "successful" else labeled

    def index(self, retriever: Retriever) -> Index:
        """A retriever fitted to the embeddings, once; kept beside the set if it is in a folder."""
        if retriever not in self._indexes:
            vectors = self.embeddings.numpy()
            kept = None if self.folder is None else self.folder / "index"
            self._indexes[retriever] = retriever.fit(vectors) if kept is None else retriever.fit_kept(vectors, kept)
        return self._indexes[retriever]

    @cached_property
    def learned(self) -> dict[str, dict[str, Tensor]]:
        """What strategies learned from these references, by a hash of who learned it and how."""
        return {}

    @cached_property
    def _indexes(self) -> dict[Retriever, Index]:
        return {}

    def check(self, model: RoutedModel, format: str | Format, embedder: Embedder) -> None:
        """Raise DataError unless the set was built with this model, format and embedder and holds a success."""
        wanted: dict[str, Any] = {"model": fingerprint(model), "format": format_key(format)}
        wanted["embedder"] = {"name": embedder.name, "revision": embedder.revision}
        built = self.card | {"format": current_key(self.card["format"])}
        for key, expected in wanted.items():
            if built[key] != expected:
                raise DataError(
                    f"Expected a reference set built with {key} {expected!r}, got one built with {built[key]!r}; "
                    f"{REBUILD}."
                )
        if len(self.successes) == 0:
            raise DataError(
                f"Expected references that the model answers right, got none among {len(self)}: there is no successful "
                "pathway to learn from; use easier references or another format."
            )

    def save(self, folder: str | Path) -> Path:
        """Write the set as a folder, whole or not at all.

        Raises:
            DataError: the disk refuses it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [
            asdict(q) | {"choices": list(q.choices), "scores": list(s), "correct": bool(c)}
            for q, s, c in zip(self.questions, self.scores, self.correct.tolist(), strict=True)
        ]
        tensors = {"embeddings": self.embeddings.contiguous(), "pathways": self.pathways.contiguous()}
        try:
            with whole(folder) as writing:
                writing.mkdir()
                pq.write_table(pa.Table.from_pylist(rows), writing / QUESTIONS)
                save_tensors(tensors, writing / TENSORS)
                hashes = {name: digest_of_file(writing / name) for name in (QUESTIONS, TENSORS)}
                (writing / CARD).write_text(json.dumps(self.card | {"files": hashes}, indent=2), encoding="utf-8")
        except OSError as error:
            raise DataError(
                f"Could not write the reference set to {folder}: {error}; choose a writable folder."
            ) from error
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> ReferenceSet:
        """Read a set back, its files checked against the card.

        Raises:
            DataError: not a reference set, or a file is missing, cut short or altered.
        """
        import pyarrow.parquet as pq

        folder = Path(folder)
        if not (folder / CARD).is_file():
            raise DataError(f"Expected a reference set (a folder with {CARD}) at {folder}; {REBUILD}.")
        card = _read_card(folder / CARD)
        for name, expected in card["files"].items():
            if not (folder / name).is_file() or digest_of_file(folder / name) != expected:
                raise DataError(f"{folder / name} is missing, cut short or altered; {REBUILD}.")
        rows = pq.read_table(folder / QUESTIONS).to_pylist()
        tensors = load_tensors(folder / TENSORS, REBUILD)
        return cls(
            tuple(
                Question(
                    **{k: v for k, v in row.items() if k not in ("scores", "correct", "choices")},
                    choices=tuple(row["choices"]),
                )
                for row in rows
            ),
            tensors["embeddings"],
            tensors["pathways"],
            tuple(tuple(row["scores"]) for row in rows),
            torch.tensor([row["correct"] for row in rows], dtype=torch.bool),
            card,
            folder,
        )


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        card = None
    if not isinstance(card, dict) or not {"files", "model", "format"} <= card.keys():
        raise DataError(f"Expected the card of a reference set in {path}, got something else; {REBUILD}.")
    return card
