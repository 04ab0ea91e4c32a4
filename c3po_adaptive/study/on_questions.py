"""The one way in which studies on questions are run: a folder is claimed and held, pieces that are left are computed,
rows are written, and what came out is summarized and drawn. A kind says what is its own."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ..errors import DataError, PluginError
from ..models.footprint import Footprint
from ..models.loading import model_footprint
from ..models.routed import RoutedModel
from ..progress import Progress, silent
from ..records.answer import Answered, ScoredAnswer
from ..records.base import Record
from ..records.jsonl import Records, read_records
from ..registry import Registry, default_registry
from ..report.page import finished_summary
from ..storage.files import write_text
from ..storage.json_files import Ours, Values
from ..storage.lock import held
from ..storage.run_folder import RECORDS, claimed_config, made_by
from .data import Data, counted, counted_in_words
from .executor import HERE, Executor, Piece
from .kind import Study
from .plan import Plan, foresee, left
from .study_config import OnQuestions
from .worker import Worker, pieces_left, run_pieces


def _asked(data: Data, path: Path) -> Callable[[Record], None]:
    """Refuses a row of a resumed run that the questions or its own scores contradict."""
    right = {(name, q.id): q.answer for name, asked in data.items() for q in asked.questions}

    def check(row: Record) -> None:
        if not isinstance(row, ScoredAnswer):
            return
        place = row.dataset, row.id
        if place not in right:
            got = "which is not in the data"
        elif row.answer != right[place]:
            got = f"with the right answer {row.answer}, which is {right[place]}"
        elif isinstance(row, Answered) and row.chosen_by == "likelihood" and row.scores[row.choice] < max(row.scores):
            got = f"with the choice {row.choice}, which has not the highest score"
        else:
            return
        raise DataError(
            f"{path}: expected answers to the questions of data set {row.dataset!r}, got {row.id!r} {got}; delete that "
            "row, and the run answers it again."
        )

    return check


C = TypeVar("C", bound=OnQuestions)
W = TypeVar("W", bound=Worker[Any])


class StudyInPieces(Study[C], Generic[C, W]):
    """A kind of study whose rows are computed piece by piece, and concluded in a way of its own.

    Attributes:
        worker: computes a piece, and says what cannot be.
        record: a row.
    """

    worker: type[W]
    record: ClassVar[type[Record]]

    @abstractmethod
    def arms(self, config: C) -> Sequence[tuple[str, int]]:
        """What answers each question, by the name that its records have, and in which draw."""

    @abstractmethod
    def told(self, worker: W, weights: Footprint) -> tuple[Values, Sequence[str]]:
        """What a plan says beside data and forecast, for programs and for a person.

        Args:
            worker: with the configuration and the data; it may load no model.
            weights: sizes of the model.
        """

    @abstractmethod
    def conclude(self, out: Path, worker: W, failed: Mapping[str, str]) -> Any:
        """Write the summary and the page of a run whose pieces are computed; the summary.

        Args:
            out: the run's folder.
            worker: of the run, with what it was claimed with.
            failed: what plugins failed at, by arm.
        """

    def whole(self, config: C, registry: Registry) -> C:
        """The configuration that is run, with what a registry's plugins add."""
        return config

    def pieces(self, worker: W, records: Records[Any]) -> Iterator[Piece]:
        """Those that are left, in the order in which they are computed."""
        return pieces_left(worker.config, worker.data, records, self.arms(worker.config))

    def times(self, config: C, weights: Footprint) -> Mapping[str, int]:
        """How often each arm asks the model a question."""
        return Counter(name for name, _ in self.arms(config))

    def strategies(self, config: C, registry: Registry) -> Iterator[tuple[str, Any]]:
        return self.worker.here(self.whole(config, registry), registry).used()

    def plan(self, config: C, registry: Registry, begun: Path | None = None) -> Plan:
        worker = self.worker.here(self.whole(config, registry), registry)
        config = worker.config
        worker.check()
        if begun is not None:
            claimed_config(begun)  # it is a run folder, and of this run
            worker.check_folder(begun)
        data = worker.data
        weights = model_footprint(config.model, dtype=config.dtype, quantize=config.quantize, revision=config.revision)
        forecast, takes = foresee(config, data, sum(self.times(config, weights).values()), weights)
        worker.fits(weights.layers, weights.n_experts, weights.top_k)
        rest = left(begun, self.record, data, Counter(name for name, _ in self.arms(config)))
        values, lines = self.told(worker, weights)
        return Plan(
            {"kind": self.kind, "datasets": counted(data), **values, "forecast": forecast},
            [*counted_in_words(data), *lines, *takes, *rest],
        )

    def run(
        self,
        config: C,
        out: Path | str,
        registry: Registry | None = None,
        *,
        model: RoutedModel | None = None,
        executor: Executor = HERE,
        progress: Progress = silent,
    ) -> Any:
        """Run it into a folder, or resume there; the summary, which stands in ``summary.json``, too.

        Args:
            config: what is run.
            out: the run's folder: ``records.jsonl``, ``summary.json``, ``report.html``.
            registry: of the strategies; default: built-ins and plugins of installed packages.
            model: loaded already; else from the configuration.
            executor: where pieces are computed.
            progress: shows how many are.

        Raises:
            DataError: the folder cannot be written or holds another run; questions or references are broken.
            SettingError: an arm, or whatever stands in an arm's place, that cannot be.
            UnknownNameError: a strategy that does not exist.
            PluginError: a plugin failed at what the summary cannot do without.
        """
        known, out = registry or default_registry(), Path(out)
        worker = self.worker.here(self.whole(config, known), known, model, executor)
        worker.check()
        worker.check_folder(out)
        _ = worker.data  # what is wrong with it is said before the model is loaded
        worker.check_model()
        with held(out):
            worker.claim(out)
            records = Records(out, self.record, _asked(worker.data, out / RECORDS))
            failed = run_pieces(worker, records, self.pieces(worker, records), executor, progress)
            return self.conclude(out, worker, failed)


class StudyOnQuestions(StudyInPieces[C, W]):
    """A kind of study that asks a model questions, and is summarized when all of it is there.

    A kind says what its pieces compute (``worker``, ``arms``), what its rows are (``record``), what they come to
    (``summary``, ``summarize``, ``table``) and how that is drawn (``page``); and what a plan tells of it (``told``).

    Attributes:
        summary: what it comes to, as it stands in ``summary.json``.
    """

    summary: ClassVar[type[Ours]]

    @abstractmethod
    def summarize(self, records: Sequence[Any], worker: W) -> Ours:
        """What was found.

        Args:
            records: all rows of the run.
            worker: of the run, with its configuration, data and model, and what it was claimed with.

        Raises:
            DataError: rows are missing.
        """

    @abstractmethod
    def page(self, summary: Any, made: Mapping[str, str | None] | None) -> str:
        """The page as HTML, self-contained.

        Args:
            summary: of the run.
            made: the model and the command that it was made by.
        """

    def conclude(self, out: Path, worker: W, failed: Mapping[str, str]) -> Any:
        if failed:
            raise PluginError("\n".join(failed.values()))
        summary = self.summarize(read_records(out, self.record), worker)
        write_text(out / "summary.json", summary.model_dump_json(indent=1) + "\n")
        self.draw_report(out)
        return summary

    def draw(self, out: Path, questions: Sequence[str] = ()) -> Iterator[str]:
        self.draw_report(out)
        yield from ()

    def draw_report(self, out: Path) -> None:
        """Draw ``report.html`` of a run's summary.

        Raises:
            DataError: there is none: the study was interrupted.
        """
        summary = finished_summary(out, self.summary, "study")
        write_text(out / "report.html", self.page(summary, made_by(out)))
