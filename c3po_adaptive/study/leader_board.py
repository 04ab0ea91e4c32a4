"""A leader board: the records of several runs as one table, page and picture, and the blocks of Markdown pages that
quote it, all generated.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ..analysis.arm_requirements import requirements
from ..analysis.dataset_in_words import format_of, references_of
from ..analysis.joined_runs import Run, as_draws
from ..analysis.summarize import summarize
from ..audit import audited_in
from ..errors import DataError, SettingError
from ..records.answer import Answered
from ..records.parquet import read_parquet
from ..records.summary import BoardSummary, RunSource
from ..report.leader_board_page import blocks, filled, page, picture
from ..settings import Settings
from ..storage.files import check_ours, check_replaceable, write_text
from ..storage.json_files import holds
from ..storage.json_values import Json, Values
from .kind import read_study
from .study_config import OnQuestions, read_yaml

SUMMARY, PAGE, PICTURE = "summary.json", "board.html", "accuracy_by_cost.svg"


class RunOnBoard(Settings):
    """A run, or several of one configuration.

    Attributes:
        config: its configuration file.
        set: what came over it (``--set``): ``key=value``, or ``@FILE``, whose path is from the board's folder.
        records: its Parquet files; paths are from the board's folder, and may be patterns (``results/*.parquet``).
        draw: runs of one draw stand beside each other. Another draw, such as ``references 1`` or ``carving 2``, answers
            the same questions with other references or another carving of the model.
    """

    called: ClassVar[str] = "a run on a board"

    config: str
    set: tuple[str, ...] = ()
    records: tuple[str, ...] = Field(min_length=1)
    draw: str = ""


class Board(Settings):
    """What stands on a leader board.

    Attributes:
        title: of the page.
        runs: whose records it is made from; the draw of the first is the one that others are draws beside.
        baseline: the arm that gains are measured against.
        arms: which stand there, in this order; default: all.
        datasets: which stand there; default: all.
        compare: pairs of arms that are compared as well.
        partly: arms may have been asked fewer of a data set's questions than the base: what is compared is compared on
            those that both answered.
        audit: the folder of an audit of the model (``c3po audit``), from the board's: what it says stands below the
            table, and a null result where nothing could have been found says so.
        seed: of the bootstrap.
        results: folder for summary, page and picture.
        pages: Markdown files with marked blocks, which are written anew.
    """

    called: ClassVar[str] = "a board"

    title: str
    runs: tuple[RunOnBoard, ...] = Field(min_length=1)
    baseline: str = "base"
    arms: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    compare: tuple[tuple[str, str], ...] = ()
    partly: bool = False
    audit: str | None = None
    seed: int = 0
    results: str = "results"
    pages: tuple[str, ...] = ()


def read_board(path: Path) -> Board:
    """A board's YAML.

    Raises:
        SettingError: no such file, an unknown key, or a value of the wrong kind.
    """
    return Board(**read_yaml(path))


def board_summary(board: Board, folder: Path) -> BoardSummary:
    """The summary of all its records, with ``matrix``, and ``sources``: where each arm on each data set is from.

    Args:
        board: what stands on it.
        folder: that its paths are from.

    Raises:
        DataError: records are missing, or do not belong together.
        SettingError: a configuration that is none of a comparison.
    """
    configs = [_config(run, folder) for run in board.runs]
    read = [
        (run, config, path, [r for r in read_parquet(folder / path) if _stands(board, r)])
        for run, config in zip(board.runs, configs, strict=True)
        for path in _paths(run, folder)
    ]
    records = as_draws([Run(path, own, run.draw) for run, _, path, own in read])
    _check_there(board, records)
    if board.arms:
        records.sort(key=lambda r: board.arms.index(r.arm))
    summary = summarize(
        records,
        config={"board": board.model_dump(mode="json"), **_asked(board, configs)},
        seed=board.seed,
        baseline=board.baseline,
        compare=board.compare,
        partly=board.partly,
        audited=None if board.audit is None else audited_in(folder / board.audit),
    )
    sources: dict[tuple[str, str], RunSource] = {}
    asked: dict[str, dict[str, Values]] = {}
    for run, config, path, own in read:
        for dataset, arm in dict.fromkeys((r.dataset, r.arm) for r in own):
            source = RunSource(dataset=dataset, arm=arm, config=run.config, records=path)
            sources.setdefault((dataset, arm), source)
            asked.setdefault(arm, {}).setdefault(dataset, _plain(config, dataset, path))
        _check_made_by(run, config, path, own)
    rows = tuple(row.model_copy(update=_asked_with(asked[row.arm], row.dataset)) for row in summary.rows)
    told = {"title": board.title, "matrix": requirements(summary), "sources": list(sources.values())}
    return BoardSummary.model_validate(dict(summary) | {"rows": rows} | told)


def _stands(board: Board, record: Answered) -> bool:
    known = ((record.arm, board.arms), (record.dataset, board.datasets))
    return all(not names or name in names for name, names in known)


def _check_there(board: Board, records: Sequence[Answered]) -> None:
    named = {name for pair in board.compare for name in pair} | {board.baseline}
    for key, names in (("arm", [*board.arms, *sorted(named)]), ("dataset", board.datasets)):
        there = {getattr(record, key) for record in records}
        for name in names:
            if name not in there:
                known = ", ".join(sorted(there))
                raise DataError(
                    f"Expected records of {key} {name!r}, got those of {known} on this board; leave it out."
                )


def write_board(board: Board, folder: Path, summary: BoardSummary) -> Iterator[Path]:
    """Write summary, page, picture and the marked blocks of pages; what was written.

    Raises:
        DataError: the disk refuses it, others' files lie where the board's would, or a page is read-only.
    """
    out = folder / board.results
    check_ours(out, (SUMMARY, PAGE, PICTURE), lambda name: holds(out / SUMMARY, ("matrix", "sources")))
    texts = {
        out / SUMMARY: _lines(summary),
        out / PAGE: page(summary, board.results),
        out / PICTURE: picture(summary),
        **_pages(board, folder, summary),
    }
    for path in texts:
        check_replaceable(path)  # all of them, before any is written
    for path, text in texts.items():
        write_text(path, text)
        yield path


def _lines(summary: BoardSummary) -> str:
    """As JSON, an entry of a list a line: there are thousands, and they are kept in git."""
    parts = []
    for key, value in summary.model_dump(mode="json").items():
        one, inside = json.dumps(value, ensure_ascii=False), isinstance(value, list) and value
        told = "[\n" + ",\n".join(json.dumps(part, ensure_ascii=False) for part in value) + "\n]" if inside else one
        parts.append(f"{json.dumps(key)}: {told}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def stale_pages(board: Board, folder: Path, summary: BoardSummary) -> list[Path]:
    """Markdown pages whose marked blocks are not what the records say."""
    wanted = _pages(board, folder, summary)
    return [path for path, text in wanted.items() if _as_written(path) != text]


def _as_written(page: Path) -> str:
    """With its ends of lines, whatever they are."""
    return page.read_bytes().decode()


def _pages(board: Board, folder: Path, summary: BoardSummary) -> dict[Path, str]:
    """Their whole texts, as they should be.

    Raises:
        SettingError: no such page, a link to one, or blocks that ``filled`` refuses.
    """
    found = {}
    for name in board.pages:
        path = Path(os.path.normpath(folder / name))
        if os.path.islink(path):
            raise SettingError(f"Expected a page of the board at {path}, got a link; name what it leads to.")
        try:
            text = _as_written(path)
        except (OSError, ValueError) as error:  # no UTF-8, or a name that no file has
            raise SettingError(f"Expected a page of the board at {path}, got: {error}; leave it out.") from None
        found[path] = filled(text, blocks(summary, os.path.relpath(folder, path.parent)), str(path))
    return found


def _paths(run: RunOnBoard, folder: Path) -> list[str]:
    """Files, from the folder, in the order of their names where a pattern finds several."""
    found: list[str] = []
    for pattern in run.records:
        names = sorted(glob(pattern, root_dir=folder))
        if not names:
            raise DataError(f"Expected records at {folder / pattern}, got none; run {run.config}, or leave it out.")
        found += [Path(name).as_posix() for name in names]
    return list(dict.fromkeys(found))  # two patterns may find one file


def _from(folder: Path, setting: str) -> str:
    return f"@{folder / setting[1:]}" if setting.startswith("@") else setting


def _config(run: RunOnBoard, folder: Path) -> OnQuestions:
    _, config = read_study(folder / run.config, [_from(folder, setting) for setting in run.set])
    if not isinstance(config, OnQuestions):
        raise SettingError(f"Expected the configuration of a comparison, got {run.config}; leave it out.")
    return config


def _asked(board: Board, configs: Iterable[OnQuestions]) -> Values:
    """The models and data sets of the configurations; of data sets of one name the first."""
    models: dict[str, None] = {}
    datasets: dict[str, Values] = {}
    for config in configs:
        models[config.model] = None
        for dataset in config.datasets:
            if board.datasets and dataset.name not in board.datasets:
                continue
            datasets.setdefault(dataset.name, dataset.model_dump(mode="json"))
    return {"model": ", ".join(models), "datasets": list(datasets.values())}


def _plain(config: OnQuestions, name: str, path: str) -> Values:
    """A data set of a configuration, with the format its questions were put in."""
    for dataset in config.datasets:
        if dataset.name == name:
            plain = dataset.model_dump(mode="json")
            return plain | {"format": plain["format"] or config.model_dump(mode="json")["format"]}
    known = ", ".join(d.name for d in config.datasets)
    raise DataError(f"Expected records of {known} at {path}, got some of {name!r}; name the configuration of that run.")


def _check_made_by(run: RunOnBoard, config: OnQuestions, path: str, records: Sequence[Answered]) -> None:
    """A configuration that is linked has to be the one that records were made by: its arms, and what it says of each.

    Raises:
        DataError: it is another.
    """
    plain = config.model_dump(mode="json")
    arms = plain.get("arms", {})  # without what they share with the run
    for record in {(record.dataset, record.arm): record for record in records}.values():
        if record.arm not in arms:
            names = ", ".join(arms)
            raise DataError(f"Expected records of {names} at {path}, as {run.config} has it, got {record.arm}.")
        for what, given, known in _said_of(plain | arms[record.arm], record.setting.model_dump(mode="json")):
            if given != known:
                raise DataError(
                    f"Expected {what} of {record.arm!r} to be {given} at {path}, as {run.config} has it, got "
                    f"{known}; name the configuration of that run."
                )


def _said_of(arm: Values, setting: Values) -> Iterator[tuple[str, Json, Json]]:
    """What a configuration and records both say of an arm."""
    for role in sorted(arm.keys() & setting.keys()):
        given, known = arm[role], setting[role]
        if not isinstance(known, Mapping):
            yield role, given, known
            continue
        given = given if isinstance(given, Mapping) else {"name": given}
        for key in sorted((given.keys() & known.keys()) - {"of"}):
            yield f"{role}.{key}", given[key], known[key]


def _asked_with(datasets: Mapping[str, Values], name: str) -> dict[str, str]:
    """Whose references and format an arm's run had, which may be others than another arm's on the same questions."""
    own = {"datasets": list(datasets.values())}
    return {"references": references_of(own, name), "format": format_of(own, name)}
