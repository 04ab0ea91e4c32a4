"""Answers of several runs, from their folders or from what is kept of them, one way for both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from os.path import isdir
from pathlib import Path
from typing import TYPE_CHECKING

from c3po_adaptive.analysis import gold_nll, records_in, summary_in
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.study import Answered, ModelIdentity, claimed_config, read_with_model

from .paired_runs import Run, check_questions

if TYPE_CHECKING:
    import pandas

KEPT = ".parquet"
CLOSE = 0.0025
"""How far apart, in nats, scores of one answer are: two of the thousandths that files keep."""
FOLLOW = {"control_of", "varies", "changes", "one_for_all", "calibrates", "positive"}
"""What an arm's setting says that its answers do not depend on, or that the rest of it settles."""


@dataclass(frozen=True)
class _Source:
    """A folder or a file, and what it says of itself.

    Attributes:
        named: whether its name is the user's or the model's, not that of the file.
        model: that gave its answers; None: it does not say, as files of earlier versions.
    """

    name: str
    path: Path
    records: list[Answered]
    named: bool = True
    model: ModelIdentity | None = None
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
            or name for two questions, splits or models; or one arm's name, in one model, for two settings.
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
    return whose | what | {"chance": r.chance, "loss": gold_nll(r), "cost": r.cost.total}


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
    check_questions([Run(source.name, source.records) for source in every])
    for several in found.values():
        _check_arms(several)
    return [Run(name, _merged(several)) for name, several in found.items()]


def _source(run: str | Path) -> _Source:
    name, equals, rest = str(run).partition("=")
    named = bool(equals) and "/" not in name and not Path(run).exists()
    path = Path(rest if named else run)
    if path.suffix == KEPT and not isdir(path):
        records, model = read_with_model(path)
        asked = {} if model is None else model.questions
        return _Source(name if named else path.stem, path, records, named, model, asked)
    config = claimed_config(path)
    summary = summary_in(path)
    if summary is None or summary.missing or summary.failed:
        what = "no summary" if summary is None else "; ".join([*summary.missing, *summary.failed.values()])
        raise DataError(f"Expected a finished run in {path}, got {what}; give its command again to finish it.")
    inputs, called = config.get("inputs", {}), Path(str(config.get("model"))).name
    known = ModelIdentity(called, inputs["model"]) if inputs.get("model") else None
    return _Source(
        name if named else called, path, [*records_in(path)], model=known, questions=inputs.get("questions", {})
    )


def _merged(sources: Iterable[_Source]) -> list[Answered]:
    """What several runs of one model answered, each answer once."""
    found: dict[object, tuple[Answered, Path]] = {}
    for source in sources:
        for record in source.records:
            first, path = found.setdefault(record.key, (record, source.path))
            if not _same(first, record):
                raise DataError(
                    f"Expected one answer of {record.arm!r} to {record.id!r} of {record.dataset!r} by "
                    f"{source.name!r}, got {_told(first)} in {path} and {_told(record)} in {source.path}; "
                    "name them apart (first=RUN second=RUN)."
                )
    return [record for record, _ in found.values()]


def _same(one: Answered, other: Answered) -> bool:
    if one is other or one.choice != other.choice:
        return one is other
    return all(abs(a - b) < CLOSE for a, b in zip(_scores(one), _scores(other), strict=True))


def _told(record: Answered) -> str:
    return f"choice {record.choice} by the scores {', '.join(f'{score:.3f}' for score in _scores(record))}"


def _scores(record: Answered) -> list[float]:
    """Above that of the right choice, which is all that files keep of them."""
    return [score - record.scores[record.answer] for score in record.scores]


def _check_arms(sources: Sequence[_Source]) -> None:
    """Refuse arms of one model that are called alike and were set otherwise, on whatever they were asked."""
    found: dict[str, tuple[Mapping[str, object], Path]] = {}
    for source in sources:
        for arm, own in {r.arm: r for r in source.records}.items():
            if not (said := _answers_depend_on(own)):
                continue
            first, path = found.setdefault(arm, (said, source.path))
            if differ := next((key for key in {**first, **said} if first.get(key) != said.get(key)), None):
                raise DataError(
                    f"Expected one setting of the arm {arm!r} by {source.name!r}, got {differ} {first.get(differ)} in "
                    f"{path} and {said.get(differ)} in {source.path}; name them apart (first=RUN second=RUN), or run "
                    "one of them with an arm of another name."
                )


def _answers_depend_on(answered: Answered) -> Mapping[str, object]:
    """What is configured of its arm; nothing where it leaves the model as it is, whatever would be done."""
    setting = answered.setting
    if setting.changes == "nothing" and setting.answerer is None:
        return {}
    return setting.model_dump(mode="json", exclude=FOLLOW)


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
        if one.name == other.name:
            _check_one_model(one, other)
        for name in one.questions.keys() & other.questions.keys():
            same_ids = asked[id(one)][name] == asked[id(other)][name]
            if same_ids and one.questions[name] != other.questions[name]:
                raise DataError(
                    f"Expected the same questions of {name!r} in {one.path} and {other.path}, got others by the same "
                    "ids (their hashes differ); run both on one file."
                )


def _check_one_model(one: _Source, other: _Source) -> None:
    """Refuse sources of one name that are of two models, or of which nobody says that they are of one."""
    if one.model and other.model and one.model.hash != other.model.hash:
        raise DataError(
            f"Expected one model by the name {one.name!r}, got two, {one.model.name} of {one.path} and "
            f"{other.model.name} of {other.path}; name them apart (first=RUN second=RUN)."
        )
    if unknown := next((source for source in (one, other) if source.model is None and not source.named), None):
        raise DataError(
            f"Expected one model by the name {one.name!r}, got {one.path} and {other.path}, of which {unknown.path} "
            "does not name its model; name each (early=RUN early=RUN if both are of one model)."
        )
