"""Benchmarks by name: where each is published, and how its rows become questions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from c3po_adaptive import UnknownNameError
from c3po_adaptive.errors import suggestion

Row = Mapping[str, Any]
Fields = dict[str, Any]

PARQUET = "refs/convert/parquet"
"""The hub's own conversion, for data sets that are still published as a script: ``datasets`` runs none any more."""


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


def _unmarked(text: str) -> str:
    text = re.sub(r"\[(header|title|step|substeps)\]", " ", text)
    return re.sub(r"\s+", " ", text).strip()
