"""Questions from files: JSONL or a JSON array, in our own schema or with CommonsenseQA's ``answerKey``.

Every row is read by ``read_question``, the hub's rows included, so a bad question is refused the same way everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from hashlib import sha256
from importlib.resources import as_file, files
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from ..errors import DataError, SettingError, UnknownNameError, suggestion
from ..storage.files import is_file, is_folder
from ..storage.json_files import unreadable
from ..storage.picture_file import Picture
from ..types import Question
from .texts import check_text, listed

Row = Mapping[str, Any]
Asked = str | Question | Row  # a question as users have it
Placed = tuple[str, Question]
"""A question with the place it was read from, for messages."""

DEMO_SPLITS = ("references", "validation", "test")
USUAL = {
    "question": ("query", "prompt", "input", "text", "problem", "ctx"),
    "choices": ("options", "answers", "candidates", "endings", "alternatives", "choice"),
    "answer": ("label", "target", "gold", "correct", "correct_answer", "answer_index", "answer_idx", "solution"),
}
"""Names that data sets of others have for our fields."""
SPLITS = ("train", "dev", *DEMO_SPLITS)
"""Names that a file of one split may have."""


def load_questions(
    source: str | Path, *, split: str | None = None, limit: int | None = None, usual: Sequence[str] = ()
) -> list[Question]:
    """Questions of a JSONL file or a JSON array; the content says which of the two.

    A row is either ours, ``{"question", "choices": [str], "answer", "id"?, "task"?, "subject"?, "split"?, "about"?,
    "images"?: [path of a picture, from the file's folder]}``, or CommonsenseQA's, ``{"question": {"stem", "choices":
    [{"label", "text"}]}, "answerKey", "id"?}`` (the hub's variant, ``{"question": str, "choices": {"label": [...],
    "text": [...]}, "answerKey"}``, too). ``answer`` is the right choice's place, counted from 0, its text, or its
    letter. A missing id becomes ``<file stem>.<index>`` and a missing task the file's name up to its first dot.

    Args:
        source: the file.
        split: keep only questions of that split.
        usual: splits of which the first that the file has is taken where none is named; every question if it has none.
        limit: keep at most that many, in the order of a hash of their ids: the same ones on every machine, spread over
            the whole file, and the first 50 of ``limit=100`` are those of ``limit=50``. None keeps file order.

    Raises:
        DataError: the file is missing or empty, a row is broken (with its line or index), an id occurs twice, or no
            row has the split.
    """
    path = Path(source)
    return first(of_split(unique(_placed(path, path.name.split(".")[0]), str(path)), split, str(path), usual), limit)


def _placed(file: Path, task: str) -> list[Placed]:
    """Its questions, of that task where a row names none."""
    return [
        (where, read_question(row, where, f"{file.stem}.{index}", task, file.parent))
        for index, (where, row) in enumerate(read_rows(file))
    ]


def load_benchmark_files(
    files: Sequence[Path],
    name: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    usual: Sequence[str] = (),
) -> list[Question]:
    """Questions of benchmarks that lie in files ``NAME.SPLIT.jsonl`` or ``SPLIT.jsonl``; rows may name a split of their
    own.

    Args:
        files: of the benchmarks.
        name: what these are called together, for messages.
        split: keep only questions of that split.
        limit: see ``load_questions``.
        usual: likewise.

    Raises:
        DataError: as for ``load_questions``.
    """
    placed = []
    for file in files:
        task, own = split_of_file(file)
        placed += [(where, q if q.split else replace(q, split=own)) for where, q in _placed(file, task)]
    return first(unique(of_split(placed, split, name, usual), name), limit)


def split_of_file(file: Path) -> tuple[str, str]:
    """Task and split by a file's name, ``NAME.SPLIT.jsonl`` or ``SPLIT.jsonl``; "" where it names no split."""
    task, *rest = file.name.split(".")
    if len(rest) > 1:
        return task, rest[0]
    return (file.absolute().parent.name or task, task) if task in SPLITS else (task, "")


def demo_questions(split: str, *, limit: int | None = None) -> list[Question]:
    """The questions that ship with the package: ``references``, ``validation`` (choose on it) or ``test``."""
    if split not in DEMO_SPLITS:
        raise UnknownNameError(f"Expected a split of the demo, got {split!r}; {suggestion(split, DEMO_SPLITS)}")
    with as_file(files("c3po_adaptive") / "tasks" / "demo" / f"{split}.jsonl") as path:
        return load_questions(path, limit=limit)


def read_question(
    row: Any, where: str, default_id: str = "", default_task: str = "", folder: Path | None = None, labeled: bool = True
) -> Question:
    """The question of a row, checked.

    Args:
        row: a row in our schema or with an ``answerKey``.
        where: where the row stands, put in front of every message.
        default_id: the id of a row that names none.
        default_task: the task of a row that names none.
        folder: that paths of its images are relative to; None: none can be read.
        labeled: whether it has to say which choice is right.

    Raises:
        DataError: the row is no question, or an image of it cannot be read.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected a JSON object for each question, got {_short(row)}.")
    if "answerKey" in row or isinstance(row.get("question"), Mapping):
        row = _unlettered(row, where)
    texts = {"id": default_id, "task": default_task}
    texts |= {name: _field(row, name, str, where) for name in (*(texts.keys() & row.keys()), "question")}
    choices = _choices(_field(row, "choices", list, where), where)
    known = labeled or row.get("answer") is not None
    answer = _answer(_field(row, "answer", (int, str), where), choices, where) if known else None
    extra = {name: _field(row, name, str, where) for name in ("subject", "split", "about") if row.get(name) is not None}
    for name, text in [*texts.items(), *(("choices", choice) for choice in choices), *extra.items()]:
        check_text(text, f"{where}: {name!r}")
    if not (texts["id"] and texts["question"].strip()):
        raise DataError(f"{where}: expected some text in the fields 'id' and 'question', got none; fill it in.")
    if (about := extra.get("about", "")) and not about.strip():
        raise DataError(f"{where}: expected some text in the field 'about', got none; fill it in, or leave it out.")
    return Question(choices=choices, answer=answer, **texts, **extra, images=_images(row, where, folder))


def as_questions(questions: Asked | Sequence[Asked], choices: Sequence[Any] | None) -> list[Question]:
    """Question records of whatever a user passes; a row as a file has it may leave its answer out."""
    if isinstance(questions, str | Question | Mapping):
        return as_questions([questions], None if choices is None else [choices])
    each = choices if isinstance(choices, list | tuple) else [choices]
    if texts := [one for one in each if isinstance(one, str)]:
        raise SettingError(f'Expected choices as a list of texts, ["a stone", "a boat"], got the text {texts[0]!r}.')
    if not isinstance(questions, list | tuple) or not isinstance(choices, list | tuple | None):
        raise SettingError(
            f"Expected questions, and choices, as lists, got {type(questions).__name__} and {type(choices).__name__}."
        )
    if choices is None:
        if any(isinstance(q, str) for q in questions):
            raise SettingError("Expected choices beside question texts, got none; pass choices=[…] or Questions.")
        return [
            q if isinstance(q, Question) else read_question(q, f"question {i}", f"question-{i}", labeled=False)
            for i, q in enumerate(questions)
        ]
    if len(choices) != len(questions):
        raise SettingError(f"Expected choices for each of {len(questions)} questions, got {len(choices)} lists.")
    for texts in choices:
        listed(texts if isinstance(texts, list | tuple) else (), "choices")
    return [
        Question(q.id, q.question, tuple(c), images=q.images, about=q.about)
        if isinstance(q, Question)
        else Question(f"question-{i}", q, tuple(c))
        for i, (q, c) in enumerate(zip(questions, choices, strict=True))
    ]


def _images(row: Row, where: str, folder: Path | None) -> tuple[Picture, ...]:
    """The pictures that a row names; each is read once, so that a run does not end at a broken one."""
    if row.get("images") is None:
        return ()
    named = _field(row, "images", list, where)
    if folder is None or not all(isinstance(name, str) and name for name in named):
        what = "none, as these questions come from no folder" if folder is None else "a list of paths of pictures"
        raise DataError(f"{where}: expected the field 'images' to be {what}, got {_short(named)}; correct it.")
    pictures = tuple(Picture(folder / name) for name in named)
    for picture in pictures:
        try:
            _ = picture.digest
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
    return pictures


def unique(placed: list[Placed], name: str) -> list[Placed]:
    """The same questions, when there are some and no id occurs twice."""
    if not placed:
        raise DataError(f"{name}: expected at least one question, got none; check that it is the right file.")
    seen: dict[str, str] = {}
    for where, question in placed:
        if question.id in seen:
            raise DataError(
                f"{where}: expected each id once, got {question.id!r} again (first in {seen[question.id]}); "
                "rename or remove one of the two."
            )
        seen[question.id] = where
    return placed


def of_split(placed: list[Placed], split: str | None, name: str, usual: Sequence[str] = ()) -> list[Placed]:
    """Those of a split; of none: of the first usual one that there is, else all of them."""
    present = {question.split for _, question in placed}
    split = split if split is not None else next((one for one in usual if one in present), None)
    found = [(where, question) for where, question in placed if split in (None, question.split)]
    if placed and not found:
        raise DataError(_no_split(name, str(split), sorted(present - {""})))
    return found


def first(placed: Iterable[Placed], limit: int | None) -> list[Question]:
    """Their questions, as ``first_of`` takes them."""
    return first_of([question for _, question in placed], limit)


def first_of(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """The first ``limit`` questions in the order of a hash of their ids; without a limit all, in their own order."""
    if limit is None:
        return list(questions)
    if limit < 1:
        raise SettingError(f"Expected limit to be at least 1, got {limit}; leave it out to take every question.")
    return sorted(questions, key=_drawn)[:limit]


def within(questions: Sequence[Question], share: tuple[float, float]) -> list[Question]:
    """Those whose id's hash, as a number from 0 to 1, lies in [a, b): parts that do not overlap, on any machine."""
    low, high = (round(end * 2**32) for end in share)
    return [question for question in questions if low <= int.from_bytes(_drawn(question)[:4], "big") < high]


def _drawn(question: Question) -> bytes:
    """What puts questions into an order that depends on nothing but their ids."""
    return sha256(question.id.encode()).digest()


def _no_split(name: str, split: str, present: Sequence[str]) -> str:
    hint = suggestion(split, present, "choose another or leave split out.")
    said = hint if present else "its questions name no split; leave split out."
    return f"{name}: expected a split that it has, got {split!r}; {said}"


def _existing(path: Path) -> Path:
    if (kind := path.suffix.lower()) in (".csv", ".tsv", ".parquet"):
        raise DataError(f"Expected questions in {path}, got {kind} format; write JSON lines, an object a row (.jsonl).")
    if is_file(path):
        return path
    if is_folder(path):
        raise DataError(f"Expected a question file, got the folder {path}; name a JSONL or JSON file in it.")
    there = sorted(file.name for file in path.parent.glob("*.json*")) if is_folder(path.parent) else []
    hint = suggestion(path.name, there, "check the path.") if there else "check the path."
    raise DataError(f"Expected a question file at {path}, but there is none; {hint}")


def read_rows(path: Path) -> list[tuple[str, Any]]:
    """Each row of a JSON or JSON lines file with its place.

    Raises:
        DataError: no such file, or none of that kind, such as a table (CSV).
    """
    try:
        text = _existing(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, got other bytes ({error}); save it as UTF-8.") from error
    return _array(text, path) if text.lstrip().startswith("[") else _lines(text, path)


def _array(text: str, path: Path) -> list[tuple[str, Any]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"{path}, line {error.lineno}: expected a JSON array, but it breaks off here: {error.msg}; mend it."
        raise DataError(message) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: expected a JSON array of questions, got something else ({unreadable(error)}); mend it."
        ) from None
    return [(f"{path}, index {index}", row) for index, row in enumerate(rows)]


def _lines(text: str, path: Path) -> list[tuple[str, Any]]:
    # Not splitlines(): that also cuts at U+2028 and the like, which JSON strings may hold.
    numbered = enumerate(text.split("\n"), start=1)
    return [(f"{path}, line {n}", _line(line, f"{path}, line {n}")) for n, line in numbered if line.strip()]


def _line(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: expected one JSON object per line, got {_short(line)} ({error.msg}, column {error.colno}); "
            "mend the line, or give a JSON array."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: expected one JSON object per line, got something else ({unreadable(error)}); mend it."
        ) from None


def _unlettered(row: Row, where: str) -> Row:
    """A row with an ``answerKey``, in our schema."""
    question = _field(row, "question", (str, Mapping), where)
    stem, holder = (
        (_field(question, "stem", str, where), question) if isinstance(question, Mapping) else (question, row)
    )
    labels, texts = _labeled(_field(holder, "choices", (list, Mapping), where), where)
    key = _field(row, "answerKey", str, where)
    if key not in labels:
        raise DataError(f"{where}: expected answerKey to be one of the labels {labels}, got {key!r}; correct it.")
    return {**row, "question": stem, "choices": texts, "answer": labels.index(key)}


def _labeled(choices: Any, where: str) -> tuple[list[Any], list[Any]]:
    if isinstance(choices, Mapping):
        labels, texts = _field(choices, "label", list, where), _field(choices, "text", list, where)
        if len(labels) != len(texts):
            raise DataError(f"{where}: expected a label for each of {len(texts)} choices, got {len(labels)}; add them.")
        return list(labels), list(texts)
    for choice in choices:
        if not isinstance(choice, Mapping):
            raise DataError(f"{where}: expected choices of the form {{label, text}}, got {_short(choice)}.")
    return [_field(c, "label", str, where) for c in choices], [_field(c, "text", str, where) for c in choices]


def _field(row: Row, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    if name not in row:
        got = ", ".join(map(repr, row)) or "no field"
        raise DataError(f"{where}: expected the field {name!r}, got only {got}{_meant(row) if name in USUAL else ''}.")
    value = row[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(_KINDS[k] for k in kinds)
        raise DataError(f"{where}: expected the field {name!r} to be {wanted}, got {_short(value)}; correct it.")
    return value


def _meant(row: Row) -> str:
    """Which fields stand for ours by names that others use, all at once; "": none."""
    usual = {ours: [key for key in row if str(key).casefold() in names] for ours, names in USUAL.items()}
    missing = {ours: usual[ours] or get_close_matches(ours, map(str, row), 1) for ours in USUAL if ours not in row}
    meant = [f"{theirs[0]!r} for {ours!r}" for ours, theirs in missing.items() if theirs]
    return f"; did you mean {', '.join(meant)}? Rename what you mean" if meant else ""


_KINDS: dict[type, str] = {str: "a string", int: "an integer (0-based)", list: "a list", Mapping: "an object"}


def _choices(choices: list[Any], where: str) -> tuple[str, ...]:
    if len(choices) < 2:
        raise DataError(f"{where}: expected at least two choices, got {len(choices)}; add the others.")
    for choice in choices:
        if not (isinstance(choice, str) and choice.strip()):
            raise DataError(f"{where}: expected every choice to be a string with some text, got {_short(choice)}.")
    return tuple(choices)


def _answer(answer: int | str, choices: tuple[str, ...], where: str) -> int:
    """The place of the right choice, from its place, its text or its letter; what might mean two is refused."""
    last = len(choices) - 1
    if isinstance(answer, int):
        if not 0 <= answer <= last:
            raise DataError(f"{where}: expected answer to be an index from 0 to {last}, got {answer}; correct it.")
        return answer
    meant = {i for i, choice in enumerate(choices) if choice == answer}
    meant |= {i for i, letter in enumerate(ascii_uppercase[: last + 1]) if letter == answer}
    if len(meant) != 1:
        raise DataError(
            f"{where}: expected answer to be an index from 0 to {last}, or the text or the letter of one choice, got "
            f"{_short(answer)}, which is {'that of several' if meant else 'none of these'}; correct it."
        )
    return meant.pop()


def _short(value: object) -> str:
    text = repr(value if not isinstance(value, str) else value[:100])
    return text if len(text) <= 60 else f"{text[:57]}..."
