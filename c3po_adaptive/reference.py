"""Reference sets: labelled questions run along the model's own pathway, with a flag whether it answered them right.

Retrieval takes the successful ones; controls, calibration and learned selectors need the others too. On disk a set is a
folder: ``questions.parquet``, ``tensors.safetensors`` and ``card.json``, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor

from .errors import DataError
from .tasks.formats import Format, as_format, description
from .types import Question

if TYPE_CHECKING:
    from .embedding import Embedder
    from .models import RoutedModel
    from .retrievers.base import Index, Retriever

SHARD = 32
Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """N labelled questions of one model.

    Attributes:
        questions: the questions, answers known.
        embeddings: ``[N, D]`` of their descriptions. pathways: ``[N, L, E]`` the model's own, ω_i.
        scores: the model's normalised log-likelihood of each choice.
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
    def successes(self) -> Tensor:
        """``[M]`` rows answered right: C3PO's reference set."""
        return self.correct.nonzero().squeeze(1)

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
        import random

        drawn = tuple(
            replace(q, answer=random.Random(f"{seed} {q.id}").randrange(len(q.choices))) for q in self.questions
        )
        return replace(self, questions=drawn)

    @cached_property
    def pool(self) -> ReferenceSet:
        """Those answered right alone, with what is kept beside the set."""
        return replace(self.subset(self.successes), folder=self.folder)

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
        for key, expected in wanted.items():
            if self.card[key] != expected:
                raise DataError(
                    f"Expected a reference set built with {key} {expected!r}, got one built with {self.card[key]!r}; "
                    "build it again: c3po refset build FILE --model MODEL --out DIR."
                )
        if len(self.successes) == 0:
            raise DataError(
                f"Expected references that the model answers right, got none among {len(self)}: there is no successful "
                "pathway to learn from; use easier references or another format."
            )

    def save(self, folder: str | Path) -> Path:
        """Write the set as a folder, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq
        from safetensors.torch import save_file

        target = Path(folder)
        partial = target.with_name(f".{target.name}.{os.getpid()}.writing")  # another process may build the same
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            rows = [
                asdict(q) | {"choices": list(q.choices), "scores": list(s), "correct": bool(c)}
                for q, s, c in zip(self.questions, self.scores, self.correct.tolist(), strict=True)
            ]
            pq.write_table(pa.Table.from_pylist(rows), partial / "questions.parquet")
            save_file(
                {"embeddings": self.embeddings.contiguous(), "pathways": self.pathways.contiguous()},
                partial / "tensors.safetensors",
            )
            hashes = {name: sha256_of(partial / name) for name in ("questions.parquet", "tensors.safetensors")}
            (partial / "card.json").write_text(json.dumps(self.card | {"files": hashes}, indent=2))
            if target.exists():
                shutil.rmtree(target)
            os.replace(partial, target)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"Could not write the reference set to {target}: {error}; choose a writable folder."
            ) from error
        return target

    @classmethod
    def load(cls, folder: str | Path) -> ReferenceSet:
        """Read a set back, its files checked against the card.

        Raises:
            DataError: not a reference set, or a file is missing, cut short or altered.
        """
        import pyarrow.parquet as pq
        from safetensors.torch import load_file

        folder = Path(folder)
        if not (folder / "card.json").is_file():
            raise DataError(
                f"Expected a reference set (a folder with card.json) at {folder}; build one: c3po refset build."
            )
        card = _read_card(folder / "card.json")
        for name, expected in card["files"].items():
            if not (folder / name).is_file() or sha256_of(folder / name) != expected:
                raise DataError(
                    f"{folder / name} is missing, cut short or altered; build the set again: c3po refset build."
                )
        rows = pq.read_table(folder / "questions.parquet").to_pylist()
        tensors = load_file(folder / "tensors.safetensors")
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


def build_reference_set(
    model: RoutedModel,
    questions: Sequence[Question],
    embedder: Embedder,
    *,
    format: str | Format = "cloze",
    scratch: str | Path | None = None,
    progress: Progress = iter,
) -> ReferenceSet:
    """Embed and run every question.

    Args:
        scratch: folder for finished shards; an interrupted build with the same arguments goes on from there.
        progress: wraps the iteration over shards, to show how far it is.

    Raises:
        DataError: no questions, or one without an answer.
    """
    unanswered = [q.id for q in questions if q.answer is None]
    if not questions or unanswered:
        raise DataError(
            "Expected reference questions with answers, got "
            + (f"none for {', '.join(unanswered[:3])}" if unanswered else "no questions at all")
            + "; references are labelled questions."
        )
    source = hashlib.sha256(json.dumps([asdict(q) for q in questions]).encode()).hexdigest()
    card = {
        "source": source,
        "model_name": model.name,
        "model": fingerprint(model),
        "embedder": {"name": embedder.name, "revision": embedder.revision},
        "format": format_key(format),
        "layers": list(model.layers),
        "revision": getattr(model.model.config, "_commit_hash", None),
        "versions": packages(),
    }
    key = hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()[:16]
    store = None if scratch is None else _writable(Path(scratch) / key)
    parts = [
        _shard(
            model, questions[i : i + SHARD], embedder, format, None if store is None else store / f"{i:07d}.safetensors"
        )
        for i in progress(range(0, len(questions), SHARD))
    ]
    correct = torch.cat([p["correct"] for p in parts])
    scores = torch.cat([p["scores"] for p in parts]).split([len(q.choices) for q in questions])
    if store is not None:
        shutil.rmtree(store, ignore_errors=True)
    return ReferenceSet(
        tuple(questions),
        torch.cat([p["embeddings"] for p in parts]),
        torch.cat([p["pathways"] for p in parts]),
        tuple(tuple(s.tolist()) for s in scores),
        correct,
        card
        | {"questions": len(questions), "successes": int(correct.sum()), "success_rate": float(correct.float().mean())},
    )


def _shard(
    model: RoutedModel, questions: Sequence[Question], embedder: Embedder, format: str | Format, path: Path | None
) -> dict[str, Tensor]:
    from safetensors.torch import load_file, save_file

    if path is not None and path.is_file():
        return load_file(path)
    states = model.prefill([model.encode(q, format) for q in questions])
    each = model.choice_scores(states)
    answers = torch.tensor([q.answer for q in questions])
    shard = {
        "embeddings": torch.from_numpy(embedder.encode([description(q) for q in questions])),
        "pathways": torch.stack([s.own for s in states]).cpu(),
        "scores": torch.cat(each),
        "correct": torch.stack([scores.argmax() for scores in each]) == answers,
    }
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        writing = path.with_suffix(f".{os.getpid()}.writing")
        try:
            save_file(shard, writing)
            os.replace(writing, path)
        except (OSError, SafetensorError) as error:
            raise DataError(f"Could not write {path}: {error}; free the disk, and build again to go on.") from error
    return shard


def _writable(folder: Path) -> Path:
    """The folder, made now: found out before the model runs, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"Could not write to {folder}: {error}; choose a writable folder.") from error
    return folder


def fingerprint(model: RoutedModel) -> str:
    """Identifies a model by its routers' weights, where any two checkpoints differ, and how others are quantised."""
    from accelerate.utils import align_module_device

    digest = hashlib.sha256()
    for site in model.sites:
        for module in site.router.modules():
            with align_module_device(module):  # brings what is offloaded
                for parameter in module.parameters(recurse=False):
                    digest.update(parameter.detach().float().cpu().numpy().tobytes())
    quantised = getattr(model.model.config, "quantization_config", None)
    if quantised is not None:
        digest.update(str(quantised.to_dict() if hasattr(quantised, "to_dict") else quantised).encode())
    return digest.hexdigest()[:16]


def packages() -> dict[str, str]:
    """Versions that a set is built with; another one may route differently."""
    return {p: version(p) for p in ("torch", "transformers", "c3po_adaptive")}


def format_key(format: str | Format) -> str:
    """A format's name and parameters as text."""
    chosen = as_format(format)
    return f"{chosen.name} {json.dumps(asdict(cast(Any, chosen)), sort_keys=True)}"


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        card = None
    if not isinstance(card, dict) or not {"files", "model", "format"} <= card.keys():
        raise DataError(
            f"Expected the card of a reference set in {path}, got something else; build the set again: "
            "c3po refset build."
        )
    return card


def sha256_of(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
