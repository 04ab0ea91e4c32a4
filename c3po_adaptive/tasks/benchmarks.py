"""Questions through the ``datasets`` library: the paper's benchmarks by name, any hub id, or a local folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import ArtifactError, DataError, UnknownNameError, suggestion
from ..storage.files import is_folder
from ..types import Question
from .question_files import SPLITS, Placed, Row, first, of_split, read_question, unique

Fields = dict[str, Any]

PARQUET = "refs/convert/parquet"
"""The hub's own conversion, for data sets that are still published as a script: ``datasets`` runs none any more."""
SAVED = ("dataset_info.json", "dataset_dict.json")
"""What ``Dataset.save_to_disk`` leaves in a folder."""
TABLES = (".parquet", ".json", ".jsonl", ".csv", ".arrow")
"""Files that a folder of questions may hold, itself or one below it that is called like a split, or data."""


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark is published, and how its rows become fields of our schema.

    Attributes:
        path: hub id.
        splits: those with labels; one alone is taken where none is named.
        fields: a row of the hub -> fields of our schema (or with an ``answerKey``); id, task and split are filled in.
            None: the row's answer is none of its choices, and it is left out.
        config: its configuration.
        subjects: configurations of which each holds one kind of question, instead of ``config``.
        revision: used when the caller names none.
    """

    path: str
    splits: tuple[str, ...]
    fields: Callable[[Row], Fields | None]
    config: str | None = None
    subjects: tuple[str, ...] = ()
    revision: str | None = None


def lettered(row: Row) -> Fields:
    """ARC and CommonsenseQA: labeled choices and an ``answerKey``."""
    return {name: row[name] for name in ("id", "question", "choices", "answerKey")}


def openbookqa(row: Row) -> Fields:
    return {name: row[name] for name in ("id", "choices", "answerKey")} | {"question": row["question_stem"]}


def sciq(row: Row) -> Fields:
    """Options in an order given by a hash of the question: the hub lists the right one apart, never among them."""
    options = [row[name] for name in ("correct_answer", "distractor1", "distractor2", "distractor3")]
    shift = int(sha256(row["question"].encode()).hexdigest(), 16) % len(options)
    return {"question": row["question"], "choices": options[-shift:] + options[:-shift], "answer": shift}


def piqa(row: Row) -> Fields:
    return {"question": row["goal"], "choices": [row["sol1"], row["sol2"]], "answer": row["label"]}


def hellaswag(row: Row) -> Fields:
    """``activity: context``, without the markers ([header], [title], ...) that WikiHow left in the texts."""
    question = f"{row['activity_label']}: {row['ctx']}"
    return {"question": _unmarked(question), "choices": [*map(_unmarked, row["endings"])], "answer": int(row["label"])}


def social_iqa(row: Row) -> Fields:
    choices = [row["answerA"], row["answerB"], row["answerC"]]
    return {"question": f"{row['context']} {row['question']}", "choices": choices, "answer": int(row["label"]) - 1}


def winogrande(row: Row) -> Fields:
    return {
        "question": row["sentence"],
        "choices": [row["option1"], row["option2"]],
        "answer": int(row["answer"]) - 1,
    }


def mmlu(row: Row) -> Fields:
    return {name: row[name] for name in ("question", "choices", "answer", "subject")}


def boolq(row: Row) -> Fields:
    """Closed book: the passage is left out."""
    return {"question": row["question"] + "?", "choices": ["true", "false"], "answer": 0 if row["answer"] else 1}


def bbh(row: Row) -> Fields | None:
    """BIG-Bench Hard: the options stand in the text, ``(A) …`` a line, and the target is a letter.

    A few rows of ``movie_recommendation`` and ``ruin_names`` have another target: they are left out.
    """
    question, _, listed = row["input"].partition("\nOptions:\n")
    options = dict(re.findall(r"^\(([A-Z])\) (.+)$", listed, re.MULTILINE))
    letter = row["target"].strip("()")
    if letter not in options:
        return None
    return {
        "question": question,
        "choices": [*options.values()],
        "answer": [*options].index(letter),
        "subject": row["subject"],
    }


LETTERED_BBH = (
    *("date_understanding", "disambiguation_qa", "geometric_shapes", "hyperbaton", "logical_deduction_five_objects"),
    *("logical_deduction_seven_objects", "logical_deduction_three_objects", "movie_recommendation"),
    *("penguins_in_a_table", "reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection"),
    *("snarks", "temporal_sequences", "tracking_shuffled_objects_five_objects"),
    *("tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects"),
)
"""The tasks of BIG-Bench Hard (Suzgun et al. 2022) whose options are listed."""

BENCHMARKS: dict[str, Benchmark] = {
    "arc_easy": Benchmark("allenai/ai2_arc", ("train", "validation", "test"), lettered, "ARC-Easy"),
    "arc_challenge": Benchmark("allenai/ai2_arc", ("train", "validation", "test"), lettered, "ARC-Challenge"),
    "openbookqa": Benchmark("allenai/openbookqa", ("train", "validation", "test"), openbookqa, "main"),
    "sciq": Benchmark("allenai/sciq", ("train", "validation", "test"), sciq),
    "piqa": Benchmark("ybisk/piqa", ("train", "validation"), piqa, revision=PARQUET),
    "hellaswag": Benchmark("Rowan/hellaswag", ("train", "validation"), hellaswag),
    "commonsense_qa": Benchmark("tau/commonsense_qa", ("train", "validation"), lettered),
    "social_iqa": Benchmark("allenai/social_i_qa", ("train", "validation"), social_iqa, revision=PARQUET),
    "winogrande": Benchmark("allenai/winogrande", ("train", "validation"), winogrande, "winogrande_xl"),
    "mmlu": Benchmark("cais/mmlu", ("dev", "validation", "test"), mmlu, "all"),
    "boolq": Benchmark("google/boolq", ("train", "validation"), boolq),
    "bbh": Benchmark(
        "SaylorTwift/bbh", ("test",), bbh, subjects=LETTERED_BBH, revision="b5306be6f827cfafbb545ff5a51f96916029b0fd"
    ),
}

FILES_ONLY = {
    "knowref": "the Hub has only its successor KnowRef-60K, other sentences in another form; its authors publish it at "
    "https://github.com/aemami1/KnowRef",
}
"""Benchmarks that are not on the hub, and why."""


def benchmark_named(name: str) -> Benchmark:
    """Where the benchmark of that name is published, and how its rows are read.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in BENCHMARKS:
        raise UnknownNameError(f"Expected a benchmark by its name, got {name!r}; {suggestion(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def load_dataset_questions(
    name: str | Path,
    *,
    split: str | None,
    limit: int | None = None,
    revision: str | None = None,
    usual: Sequence[str] = (),
    known: Iterable[str] = (),
) -> list[Question]:
    """Questions of a benchmark, a hub id or a local folder.

    Args:
        name: a name in ``BENCHMARKS``; or a folder written by ``Dataset.save_to_disk`` or one that ``load_dataset``
            reads (Parquet, JSON, CSV files); or a hub id ``owner/name``. The last two have the columns of our schema,
            or an ``answerKey`` (see ``load_questions``). A folder called like a benchmark is meant by ``./name``.
        split: the split. None: the first of the usual ones that there is; without any, every question of a folder.
        limit: see ``load_questions``.
        revision: commit, tag or branch on the hub.
        usual: see ``load_questions``; a hub id is asked for its splits.
        known: names that may have been meant, beside the benchmarks.

    Raises:
        UnknownNameError: no benchmark, folder or hub id of that name.
        DataError: the data set cannot be reached, or has not this split or these columns.
    """
    benchmark = BENCHMARKS.get(str(name))
    if benchmark is None and is_folder(Path(name)):
        return first(_folder_questions(Path(name), split, usual), limit)
    if str(name) in FILES_ONLY:
        raise DataError(
            f"Expected a file {name}.SPLIT.jsonl in the folder that $C3PO_DATA names, got none: {FILES_ONLY[str(name)]}"
            "; put it there in our schema, with the pronoun as a blank (_) and the candidates as choices."
        )
    if benchmark is None:
        benchmark = Benchmark(_hub_id(name, known), (), dict)
    if split is None and len(benchmark.splits) == 1:
        (split,) = benchmark.splits
    elif split is None and usual:
        there = benchmark.splits or _splits_of(str(name), revision)
        split = next((one for one in usual if one in there), None)
    if split is None or (benchmark.splits and split not in benchmark.splits):
        how = f"name one with split, or as {name}:{(benchmark.splits or ('validation',))[-1]}."
        hint = suggestion(str(split), benchmark.splits, how) if benchmark.splits else how
        raise DataError(f"{name}: expected a labeled split, got {split!r}; {hint}")
    return first(published_questions(benchmark, str(name), split, revision), limit)


def published_questions(
    benchmark: Benchmark, name: str, split: str, revision: str | None = None
) -> list[tuple[str, Question]]:
    """All questions of a split of the hub, each behind the place that it is from, as a source gives them.

    Args:
        benchmark: where it is published, and how its rows are read.
        name: task of its questions, and what their ids begin with.
        split: of the hub's.
        revision: see ``load_dataset_questions``.

    Raises:
        DataError: the data set cannot be reached, is empty, or has other columns.
        ArtifactError: the library ``datasets`` is not installed.
    """
    placed = _questions(_from_hub(benchmark, split, revision), name, split, benchmark.fields)
    return unique(placed, f"{name} ({split})")


def _hub_id(name: str | Path, known: Iterable[str]) -> str:
    path = Path(name)
    beside = path.parent if path.name != str(name) and is_folder(path.parent) else None
    if beside is None and re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        return str(name)
    names = {"demo", *known, *BENCHMARKS, *FILES_ONLY}
    if beside is not None:
        names = {str(beside / entry.name) for entry in beside.iterdir()}
    page = "" if known or beside is not None else "in docs/howto/own_questions.md"
    hint = suggestion(str(name), sorted(names), "name a file, a folder or one of these.", page)
    raise UnknownNameError(
        f"Expected a benchmark, an existing file or folder or a hub id owner/name; got {name!r}; {hint}"
    )


def _from_hub(benchmark: Benchmark, split: str, revision: str | None) -> Iterator[Row]:
    for subject in benchmark.subjects:
        rows = _table(benchmark.path, subject, split, revision or benchmark.revision)
        yield from ({**row, "subject": subject} for row in rows)
    if not benchmark.subjects:
        yield from _table(benchmark.path, benchmark.config, split, revision or benchmark.revision)


def _table(path: str, config: str | None, split: str, revision: str | None) -> Iterable[Row]:
    library = _library()
    try:
        rows: Iterable[Row] = library.load_dataset(path, config, split=split, revision=revision)
    except (OSError, ValueError, LookupError, RuntimeError, library.exceptions.DatasetsError) as error:
        what = f"the split {split!r} of {path!r}" + (f" ({config})" if config else "")
        raise DataError(
            f"Expected {what} from the Hugging Face hub, but loading it failed: {error}; check the name and the "
            "network, or give a local JSONL file."
        ) from error
    return rows


def _splits_of(name: str, revision: str | None) -> list[str]:
    """The splits that a data set of the hub has."""
    library = _library()
    try:
        found: list[str] = library.get_dataset_split_names(name, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"Expected the data set {name!r} on the Hugging Face hub, but asking for its splits failed: {error}; check "
            "the name and the network, name a split, or give a local JSONL file."
        ) from error
    return found


def _folder_questions(folder: Path, split: str | None, usual: Sequence[str]) -> list[Placed]:
    tables = _from_folder(folder).items()
    placed = [pair for part, rows in tables for pair in _questions(rows, str(folder), part, dict)]
    # Ids need only be unique in what is asked for: some data sets count anew in every split.
    return unique(of_split(placed, split, str(folder), usual), str(folder))


def _from_folder(folder: Path) -> Mapping[str, Iterable[Row]]:
    """The splits of a local folder; one without a name is called ''."""
    library = _library()
    saved = any((folder / name).is_file() for name in SAVED)
    # Asked for any other folder, the library would look through all that is below it.
    inside = [folder, *(folder / name for name in ("data", *SPLITS))]
    if not saved and not any(file.suffix in TABLES for part in inside if is_folder(part) for file in part.iterdir()):
        raise DataError(
            f"Expected a folder that the datasets library can read at {folder}, but it holds none of "
            f"{', '.join(TABLES)}; write it with Dataset.save_to_disk, or put Parquet or JSON files in it."
        )
    try:
        data = library.load_from_disk(str(folder)) if saved else library.load_dataset(str(folder))
    except (OSError, ValueError, LookupError, RuntimeError, library.exceptions.DatasetsError) as error:
        raise DataError(
            f"Expected a folder that the datasets library can read at {folder}, but it failed: {error}; "
            "write it with Dataset.save_to_disk, or put Parquet or JSON files in it."
        ) from error
    return data if isinstance(data, library.DatasetDict) else {str(data.split or ""): data}


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ArtifactError(
            "Expected the library datasets, for questions of a folder or the hub, but it is not installed; "
            "run pip install 'c3po_adaptive[datasets]', or give a JSONL file."
        ) from error
    return datasets


def _questions(rows: Iterable[Row], name: str, split: str, fields: Callable[[Row], Fields | None]) -> list[Placed]:
    """Checked questions with their places; a row's own id and split win over ``<name>.<split>.<index>``, ``split``."""
    task = Path(name).name
    stem = f"{task}.{split}" if split else task
    placed = []
    for index, row in enumerate(rows):
        where = f"{name} ({split}), row {index}" if split else f"{name}, row {index}"
        if (found := _converted(fields, row, where)) is not None:
            own = {key: value for key, value in found.items() if value is not None}
            filled = {"id": f"{stem}.{index:05d}", "task": task, "split": split} | own
            placed.append((where, read_question(filled, where)))
    return placed


def _converted(fields: Callable[[Row], Fields | None], row: Row, where: str) -> Fields | None:
    try:
        return fields(row)
    except KeyError as error:
        raise DataError(
            f"{where}: expected the column {error}, got {', '.join(map(repr, row))}: the data set is published "
            "otherwise now; pin a revision that has it, or put a file NAME.SPLIT.jsonl into the folder that $C3PO_DATA "
            "names."
        ) from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise DataError(
            f"{where}: expected a labeled row of this benchmark, got {_short(row)} ({error}); choose a split with "
            "labels, or pin a revision whose rows have the expected form."
        ) from error


def _short(row: Row) -> str:
    text = str(dict(row))
    return text if len(text) <= 200 else f"{text[:199]}…"


def _unmarked(text: str) -> str:
    text = re.sub(r"\[(header|title|step|substeps)\]", " ", text)
    return re.sub(r"\s+", " ", text).strip()
