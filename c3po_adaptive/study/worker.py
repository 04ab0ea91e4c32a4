"""What computes the pieces of a study on questions, here or in another process, and how their rows are written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from ..errors import DataError
from ..models.fingerprint import fingerprint
from ..models.routed import RoutedModel
from ..progress import Progress
from ..records.base import Record
from ..records.jsonl import Records
from ..references.build import reference_set_of, relabeled
from ..references.embedding import Embedder, embedder_named
from ..references.model_embedding import MODEL, ModelEmbedder
from ..references.reference_set import ReferenceSet, is_reference_set
from ..registry import Registry, new_registry
from ..remixing.training import check_enough
from ..storage.json_files import Values
from ..storage.run_folder import check_folder, claim
from ..types import Question
from .data import Asked, Data, counted_once, inputs_of, load_model, read_data
from .executor import HERE, Done, Executor, Piece, Row, device_here
from .study_config import OnQuestions

C = TypeVar("C", bound=OnQuestions)
R = TypeVar("R", bound=Record)
UNKNOWN = 1 << 30
"""Experts, where nobody knows how many."""


@dataclass(eq=False)
class Worker(ABC, Generic[C]):
    """Computes pieces; its fields are plain data, and all that a process that it is sent to gets of it.

    What takes long to load (model, references) is cached where it is called.

    Attributes:
        config: of the study.
        plugins: paths of the plugin files whose strategies it may meet.
        inputs: what the run was claimed with beside its configuration: a process that has anything else refuses.
        places: where files and built sets lie that the configuration names by other paths: in a process that was sent
            them.
    """

    config: C
    plugins: tuple[str, ...] = ()
    inputs: Values | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls, config: C, registry: Registry, model: RoutedModel | None = None, executor: Executor = HERE) -> Self:
        """One for this process, with what is loaded here already; pieces may be computed elsewhere."""
        worker = cls(config, registry.paths)
        worker.registry, worker._device = registry, device_here(executor, config.device, config.quantize)
        if model is not None:
            worker.model = model
        return worker

    def __getstate__(self) -> dict[str, object]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @cached_property
    def registry(self) -> Registry:
        """Built-ins, plugins of installed packages, and those of the files."""
        registry = new_registry()
        for path in self.plugins:
            registry.load_file(path)
        return registry

    @cached_property
    def model(self) -> RoutedModel:
        return load_model(self.config.model_copy(update={"device": self._device}))

    @cached_property
    def _device(self) -> str | None:
        return self.config.device

    @cached_property
    def data(self) -> dict[str, Asked]:
        return read_data(self.config, self.registry)

    @property
    def counted_once(self) -> list[str]:
        """A line for each data set with repeated questions."""
        return counted_once(self.data)

    @cached_property
    def embedder(self) -> Embedder:
        return ModelEmbedder(self.model) if self.config.embedder == MODEL else embedder_named(self.config.embedder)

    def reference_set(self, dataset: str) -> ReferenceSet:
        """A data set's references: the built set that it names, or one from the cache.

        Raises:
            DataError: it has none.
        """
        (named,) = (d.references for d in self.config.datasets if d.name == dataset)
        asked = self.data[dataset]
        if asked.before is None:
            return self._set_of(named, asked.references, dataset)
        before = self._set_of(named, asked.before, dataset)
        added = [q for q in asked.references if q.id not in {r.id for r in before.questions}]
        sets = [before, self._set_of((), added, dataset)] if added else [before]
        return relabeled(sets, asked.references)

    def _set_of(self, named: Sequence[str], labeled: Sequence[Question], dataset: str) -> ReferenceSet:
        if len(named) == 1 and is_reference_set(place := self.at(named[0])):
            built = ReferenceSet.load(place)
            if len(built) == len(labeled):  # no split or limit of it
                return built
        return reference_set_of(labeled, self.model, self.embedder, self.config.format_of(dataset))

    def batch(self, piece: Piece) -> Sequence[Question]:
        """The questions of a piece."""
        size = self.config.batch_size
        return self.data[piece.dataset].questions[piece.batch * size : (piece.batch + 1) * size]

    def __call__(self, piece: Piece) -> tuple[Row, ...]:
        """The rows of a piece.

        Raises:
            DataError: model, questions, plugins or versions here are not those of the run.
        """
        if other := self._differing:
            raise DataError(
                f"Expected a worker with the run's own inputs, got another {', '.join(other)} in this process; give it "
                "the same model, question files, plugin files and package versions."
            )
        return self.rows(piece)

    @abstractmethod
    def rows(self, piece: Piece) -> tuple[Row, ...]:
        """The rows of a piece, whatever the inputs of this process."""

    def used(self) -> Iterator[tuple[str, Any]]:
        """Every strategy that its pieces meet, with its role: plugins that are installed and bring none of them have no
        part in the run, and it is resumed without them.

        Raises:
            UnknownNameError: a name that does not exist.
            SettingError: a parameter that does not exist, or a value that it cannot have.
        """
        yield from ()

    def check(self) -> None:
        """Refuse what cannot be, whatever the model; errors as of ``used``, or of the kind's own."""
        for _ in self.used():
            pass

    def fits(self, layers: tuple[int, ...], experts: int | None, top_k: int | None) -> None:
        """Refuse what the model or the data sets have too little for: now, rather than after other pieces were run.

        Args:
            layers: decoder layers that are MoE layers.
            experts: how many there are in each; None: not known, and not checked.
            top_k: how many of these are used per token; likewise.

        Raises:
            SettingError: with what there is.
        """

    def check_references(self, wanted: int) -> None:
        """Refuse to learn from more references than each data set has, without those that are asked themselves.

        Raises:
            SettingError: one has fewer.
        """
        for asked in self.data.values():
            check_enough(wanted, asked.known)

    def check_model(self) -> None:
        """Refuse a model that was loaded; errors as of ``fits``."""
        self.fits(self.model.layers, self.model.n_experts, self.model.sites[0].top_k)

    @property
    def files(self) -> Sequence[str]:
        """That its strategies read, beside questions and plugins."""
        return ()

    @property
    def other_models(self) -> Mapping[str, RoutedModel]:
        """That its pieces run beside the model, by the keys that name them."""
        return {}

    def at(self, value: Any) -> Any:
        """A value of the configuration, with the paths in it as they are in this process."""
        if isinstance(value, dict):
            return {key: self.at(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.at(part) for part in value]
        return self.places.get(value, value) if isinstance(value, str) else value

    def check_folder(self, out: Path | str) -> None:
        """Refuse a folder that cannot be written or holds another run, before the model is loaded.

        Raises:
            DataError: with what to do.
        """
        check_folder(out, self.config.model_dump(mode="json"), self._plugins_used)

    def claim(self, out: Path | str) -> Values:
        """Claim a run's folder for the configuration and the inputs here, which others are held to; the inputs.

        Raises:
            DataError: the folder cannot be written, or holds another run.
        """
        self.inputs = self._inputs
        self._differing = []
        claim(out, self.config.model_dump(mode="json") | {"inputs": self.inputs}, self.model.name)
        return self.inputs

    @property
    def _plugins_used(self) -> dict[str, str]:
        return self.registry.files_of(strategy for _, strategy in self.used())

    @property
    def _inputs(self) -> Values:
        read = {name: self.at(name) for name in self.files}
        others = {name: fingerprint(model) for name, model in self.other_models.items()}
        return {**inputs_of(self.model, self.data, self._plugins_used, read), **others}

    @cached_property
    def _differing(self) -> list[str]:
        """The inputs here that are not the run's own."""
        if self.inputs is None:
            return []
        run, here = self.inputs, self._inputs
        return sorted(name for name in {*run, *here} if run.get(name) != here.get(name))


def pieces_left(
    config: OnQuestions, data: Data, records: Records[Any], arms: Sequence[tuple[str, int]]
) -> Iterator[Piece]:
    """Pieces that some question's row is missing of: all arms on the same questions in turn, which the model then reads
    once, however little memory there is for states.
    """
    done, size = records.done(), config.batch_size
    for dataset, asked in data.items():
        for first in range(0, len(asked.questions), size):
            batch = asked.questions[first : first + size]
            for name, draw in arms:
                if any((name, dataset, q.id, config.seed + draw) not in done for q in batch):
                    yield Piece(dataset, name, first // size, draw)


def run_pieces(
    worker: Worker[Any], records: Records[R], waiting: Iterator[Piece], executor: Executor, progress: Progress
) -> dict[str, str]:
    """Compute pieces and write their rows, but for those that are there already; this is the one writer.

    An arm whose plugin fails is left out from there on, and others go on.

    Returns:
        The arms that failed, and why.
    """
    pieces, there = list(waiting), records.done()
    failed: dict[str, str] = {}
    going = (piece for piece in pieces if piece.arm not in failed)
    with closing(executor.map(worker, going)) as computed:  # an error on its way would keep it: others want its cores
        for done in progress(computed, _label, len(pieces)):
            if done.failure:
                failed.setdefault(done.piece.arm, done.failure)
            for row in done.rows:
                if row.key not in there:
                    records.append(row)
                    there.add(row.key)
    return failed


def _label(done: Done) -> str:
    return ": ".join(filter(None, (done.piece.dataset, done.piece.arm)))
