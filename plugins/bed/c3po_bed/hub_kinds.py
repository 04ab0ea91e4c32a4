"""Which kinds the Hub has, and how its rows become questions in the bed's words.

Left out are kinds whose options or labels were made for the bed, and those whose columns there are not plain: they are
in files alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

from c3po_benchmarks import Benchmark, benchmark_named

from .wording import wordings

Row = Mapping[str, Any]
Fields = dict[str, Any]


@dataclass(frozen=True)
class Published:
    """A kind's source on the Hub.

    Attributes:
        benchmark: the data set, its rows in the bed's words.
        references: its split that references come from.
        asked: the one that validation and test questions come from.
    """

    benchmark: Benchmark
    references: str = "train"
    asked: str = "test"


def _asked(kind: str, **parts: str) -> str:
    return wordings()[kind].asked.format(**parts)


def _tidy(text: str) -> str:
    """As the bed has it: no entities, no doubled spaces, no mark of the shared task on stance."""
    return " ".join(unescape(unescape(text)).replace("#SemST", " ").split())


def _joined(text: str) -> str:
    """In plain writing, what was taken apart for a parser."""
    text = _tidy(text).replace("``", '"').replace("''", '"').replace("-lrb- ", "(").replace(" -rrb-", ")")
    text = re.sub(r" (?=[,.;:!?])| (?=n't\b)| (?='(?:s|re|ve|ll|d|m)\b)", "", text)
    return text.replace("( ", "(").replace(" )", ")")


def _labeled(
    kind: str,
    path: str,
    labels: Sequence[str],
    *,
    choices: Sequence[str] = (),
    config: str | None = None,
    plain: Callable[[str], str] = _tidy,
) -> Benchmark:
    """Texts with one of a few labels, which ``labels`` names in the order of their numbers, and ``choices`` (or the
    same) in the order in which they are offered; a row of a label that is not offered is left out."""
    offered = [*(choices or labels)]

    def fields(row: Row) -> Fields | None:
        label = labels[row["label"]]
        question = _asked(kind, text=plain(row["text"]))
        return {"question": question, "choices": offered, "answer": label} if label in offered else None

    return Benchmark(path, (), fields, config)


def _tweets(kind: str, config: str, labels: Sequence[str], choices: Sequence[str] = ()) -> Published:
    return Published(_labeled(kind, "cardiffnlp/tweet_eval", labels, choices=choices, config=config))


def _benchmark(kind: str, name: str = "", subjects: Sequence[str] = (), **splits: str) -> Published:
    """One of the benchmarks, its questions in the bed's instruction; of some subjects alone, if they are named."""
    benchmark = benchmark_named(name or kind)

    def fields(row: Row) -> Fields | None:
        found = benchmark.fields(row)
        if found is None or (subjects and found["subject"] not in subjects):
            return None
        kept = {key: found[key] for key in ("choices", "answer", "answerKey") if key in found}
        return kept | {"question": _asked(kind, text=" ".join(found["question"].split()))}

    return Published(Benchmark(benchmark.path, (), fields, benchmark.config, revision=benchmark.revision), **splits)


def _exam(kind: str, *subjects: str) -> Published:
    return _benchmark(kind, "mmlu", subjects, references="validation")


def _boolq(row: Row) -> Fields:
    question = f"{row['question'].strip().capitalize().rstrip('?')}?"
    return {"question": question, "choices": ["yes", "no"], "answer": "yes" if row["answer"] else "no"}


def _svamp(row: Row) -> Fields:
    """The problem's two parts are two sentences; one row's type is misspelled."""
    body = _tidy(row["Body"])
    text = f"{body if body[-1] in '.?!' else f'{body}.'} {_tidy(row['Question'])}"
    operations = ["addition", "subtraction", "multiplication", "division"]
    operation = row["Type"].lower().removeprefix("common-").replace("divison", "division")
    return {"question": _asked("svamp_operation", text=text), "choices": operations, "answer": operation}


def _pubmedqa_closed(row: Row) -> Fields:
    question = _asked("pubmedqa_closed", text=row["question"])
    return {"question": question, "choices": ["yes", "no", "maybe"], "answer": row["final_decision"]}


def _pubmedqa_conclusion(row: Row) -> Fields:
    question = _asked("pubmedqa_conclusion", text=row["long_answer"], asked=row["question"])
    return {"question": question, "choices": ["yes", "no", "maybe"], "answer": row["final_decision"]}


def _pubmed(fields: Callable[[Row], Fields]) -> Published:
    return Published(Benchmark("qiaojin/PubMedQA", (), fields, "pqa_labeled"), asked="train")


STANCE = ("neither", "against", "in favour")
STANCES = ("in favour", "against", "neither")

HUB: Mapping[str, Published] = {
    "agnews_topic": Published(
        _labeled("agnews_topic", "fancyzhx/ag_news", ("World", "Sports", "Business", "Science and technology"))
    ),
    "arc_challenge": _benchmark("arc_challenge"),
    "arc_easy": _benchmark("arc_easy"),
    "boolq": Published(Benchmark("google/boolq", (), _boolq), asked="validation"),
    "commonsense_qa": _benchmark("commonsense_qa", asked="validation"),
    "hellaswag": _benchmark("hellaswag", asked="validation"),
    "mmlu_humanities": _exam(
        *("mmlu_humanities", "formal_logic", "logical_fallacies", "moral_disputes", "moral_scenarios", "philosophy"),
        *("prehistory", "world_religions", "high_school_european_history", "high_school_us_history"),
        "high_school_world_history",
    ),
    "mmlu_medicine": _exam(
        *("mmlu_medicine", "anatomy", "clinical_knowledge", "college_medicine", "human_aging", "medical_genetics"),
        *("nutrition", "professional_medicine", "virology"),
    ),
    "mmlu_other": _exam(
        *("mmlu_other", "business_ethics", "global_facts", "management", "marketing", "miscellaneous"),
        "professional_accounting",
    ),
    "mmlu_social": _exam(
        *("mmlu_social", "econometrics", "high_school_geography", "high_school_government_and_politics"),
        *("high_school_macroeconomics", "high_school_microeconomics", "high_school_psychology", "human_sexuality"),
        *("professional_psychology", "public_relations", "security_studies", "sociology", "us_foreign_policy"),
    ),
    "movie_review_polarity": Published(
        _labeled(
            "movie_review_polarity",
            "cornell-movie-review-data/rotten_tomatoes",
            ("no", "yes"),
            choices=("yes", "no"),
            plain=_joined,
        )
    ),
    "piqa": _benchmark("piqa", asked="validation"),
    "pubmedqa_closed": _pubmed(_pubmedqa_closed),
    "pubmedqa_conclusion": _pubmed(_pubmedqa_conclusion),
    "sciq": _benchmark("sciq"),
    "social_iqa": _benchmark("social_iqa", asked="validation"),
    "sst5_stars": Published(
        _labeled("sst5_stars", "SetFit/sst5", ("very bad", "bad", "mixed", "good", "very good"), plain=_joined)
    ),
    "svamp_operation": Published(Benchmark("ChilleD/SVAMP", (), _svamp)),
    "tweet_emotion": _tweets("tweet_emotion", "emotion", ("anger", "joy", "optimism", "sadness")),
    "tweet_hate": _tweets("tweet_hate", "hate", ("no", "yes"), ("yes", "no")),
    "tweet_irony": _tweets("tweet_irony", "irony", ("no", "yes"), ("yes", "no")),
    "tweet_offensive": _tweets(
        "tweet_offensive", "offensive", ("not offensive", "offensive"), ("offensive", "not offensive")
    ),
    "tweet_sentiment": _tweets("tweet_sentiment", "sentiment", ("negative", "neutral", "positive")),
    "tweet_stance_abortion": _tweets("tweet_stance_abortion", "stance_abortion", STANCE, STANCES),
    "tweet_stance_climate": _tweets("tweet_stance_climate", "stance_climate", STANCE, ("in favour", "neither")),
    "tweet_stance_feminist": _tweets("tweet_stance_feminist", "stance_feminist", STANCE, STANCES),
    "tweet_stance_hillary": _tweets("tweet_stance_hillary", "stance_hillary", STANCE, STANCES),
    "winogrande": _benchmark("winogrande", asked="validation"),
}
"""By kind."""
