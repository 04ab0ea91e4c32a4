"""Answers of several runs, from their folders or from what is kept of them, one way for both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, SettingError
from ..records.answer import Answered
from ..records.base import Key
from ..records.parquet import read_parquet
from ..storage.files import is_folder
from ..storage.run_folder import claimed_config
from . import statistics as stats
from .comparison_folder import records_in, summary_in
from .paired_runs import Run, check_questions

if TYPE_CHECKING:
    import pandas

KEPT = ".parquet"


@dataclass(frozen=True)
class _Source:
    """A folder or a file, and what it says of itself: a kept file no hashes."""

    name: str
    path: Path
    records: list[Answered]
    model: str | None = None
    questions: Mapping[str, str] = field(default_factory=dict)


def answers(*runs: str | Path) -> pandas.DataFrame:
    """The answers of several runs as a table, a row an answer.

    Args:
        runs: folders of finished comparisons, or files of kept answers (``records.parquet`` by any name); as text, a
            model's name may stand before: ``early=runs/early``. Without one a folder's model is named as its
            configuration names it, and a file's as the file. Several of one name are one model's.

    Returns:
        ``model``, ``dataset``, ``split``, ``arm``, ``kind``, ``question`` and ``draw`` (its seed) say whose answer it
        is to what; ``answer`` is the right choice, ``choice`` the chosen one (-1: none), ``correct`` whether they are
        the same, ``chance`` one over the choices, ``loss`` the negative log-likelihood of the right one among them in
        nats, ``cost`` base forwards.

    Raises:
        SettingError: no run, or pandas is not installed.
        DataError: a run is none, or not finished; one question answered in two ways under one name; one id, data set
            or name for two questions, splits or models.
    """
    try:
        import pandas
    except ImportError:
        raise SettingError(
            "Expected pandas, which answers are a table of, got none; pip install 'c3po_adaptive[pandas]'."
        ) from None
    return pandas.DataFrame([_row(run.name, record) for run in read_runs(*runs) for record in run.records])


def _row(model: str, r: Answered) -> dict[str, object]:
    whose = {"model": model, "dataset": r.dataset, "split": r.split, "arm": r.arm, "kind": kind_of(r)}
    what = {"question": r.id, "draw": r.seed, "answer": r.answer, "choice": r.choice, "correct": r.correct}
    return whose | what | {"chance": r.chance, "loss": stats.gold_nll(r), "cost": r.cost.total}


def kind_of(record: Answered) -> str:
    """Of a question, in whatever data set; that which has none is of its data set's."""
    return record.subject or record.dataset


def read_runs(*runs: str | Path) -> list[Run]:
    """Answers by model; see ``answers``."""
    if not runs:
        raise SettingError("Expected runs, got none; name folders of runs, or files of kept answers.")
    found: dict[str, list[_Source]] = {}
    for run in runs:
        found.setdefault((source := _source(run)).name, []).append(source)
    every = [source for several in found.values() for source in several]
    _check_data(every)
    read = [Run(name, _merged(several)) for name, several in found.items()]
    check_questions(read)
    return read


def _source(run: str | Path) -> _Source:
    name, equals, rest = str(run).partition("=")
    named = bool(equals) and "/" not in name and not Path(run).exists()
    path = Path(rest if named else run)
    if path.suffix == KEPT and not is_folder(path):
        return _Source(name if named else path.stem, path, read_parquet(path))
    config = claimed_config(path)
    summary = summary_in(path)
    if summary is None or summary.missing or summary.failed:
        what = "no summary" if summary is None else "; ".join([*summary.missing, *summary.failed.values()])
        raise DataError(f"Expected a finished run in {path}, got {what}; give its command again to finish it.")
    inputs, model = config.get("inputs", {}), str(config.get("model"))
    own = {"model": inputs.get("model"), "questions": inputs.get("questions", {})}
    return _Source(name if named else Path(model).name, path, [*records_in(path)], **own)


def _merged(sources: Iterable[_Source]) -> list[Answered]:
    """What several runs of one model answered, each answer once."""
    found: dict[Key, tuple[Answered, Path]] = {}
    for source in sources:
        for record in source.records:
            first, path = found.setdefault(record.key, (record, source.path))
            if first.choice != record.choice:
                raise DataError(
                    f"Expected one answer of {record.arm!r} to {record.id!r} of {record.dataset!r} by "
                    f"{source.name!r}, got choice {first.choice} in {path} and {record.choice} in {source.path}; "
                    "name them apart (first=RUN second=RUN)."
                )
    return [record for record, _ in found.values()]


def _check_data(sources: Iterable[_Source]) -> None:
    """Refuse what is called alike and is not, as far as runs say."""
    sources = list(sources)
    splits: dict[str, str] = {}
    for source in sources:
        for record in source.records:
            if splits.setdefault(record.dataset, record.split) != record.split:
                raise DataError(
                    f"Expected one split of {record.dataset!r}, got {splits[record.dataset]!r} and {record.split!r} in "
                    f"{source.path}; compare each by itself."
                )
    asked = {id(s): {name: {r.id for r in s.records if r.dataset == name} for name in s.questions} for s in sources}
    for one, other in combinations(sources, 2):
        if one.name == other.name and None not in (one.model, other.model) and one.model != other.model:
            raise DataError(
                f"Expected one model by the name {one.name!r}, got two, of {one.path} and {other.path}; name them "
                "apart (first=RUN second=RUN)."
            )
        for name in one.questions.keys() & other.questions.keys():
            same_ids = asked[id(one)][name] == asked[id(other)][name]
            if same_ids and one.questions[name] != other.questions[name]:
                raise DataError(
                    f"Expected the same questions of {name!r} in {one.path} and {other.path}, got others by the same "
                    "ids (their hashes differ); run both on one file."
                )
