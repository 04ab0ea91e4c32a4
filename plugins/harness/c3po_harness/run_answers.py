"""What a run asked and what was answered, for those who write it as other tools have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from c3po_adaptive import DataError, Question, SettingError, load_tokenizer
from c3po_adaptive.analysis import DatasetsInWords, first_draw, records_in
from c3po_adaptive.study import AnswerRecord, ComparisonConfig, claimed_config
from c3po_adaptive.tasks import ASKED, Rendered
from c3po_adaptive.tasks import questions as read_questions

KIND = "comparison"
Key = tuple[str, str]
"""Data set and id of a question."""


@dataclass(frozen=True, eq=False)
class RunAnswers:
    """What the arms of a comparison answered, and to what.

    Attributes:
        config: of the run.
        records: the answers, without those of arms that failed; of an arm in several draws those of the first.
        questions: that were answered, by data set and id, in one order for all arms.
        put: each as the model was given it, in its data set's format.
    """

    config: ComparisonConfig
    records: Sequence[AnswerRecord]
    questions: Mapping[Key, Question]
    put: Mapping[Key, Rendered]

    def format_in_words(self, dataset: str) -> str:
        """How a data set's questions were put."""
        return DatasetsInWords(self.config.model_dump(mode="json")).format(dataset)


def answers_in(run: Path | str, questions: Sequence[str] = ()) -> RunAnswers:
    """The answers of a comparison, finished or not, with their questions.

    Args:
        run: its folder.
        questions: sources with the texts of questions; default: where the configuration has them from.

    Raises:
        SettingError: a run of another kind, which holds no answers.
        DataError: no run, a file in it is broken, or a question's text is in none of the sources.
    """
    run = Path(run)
    claim = claimed_config(run)
    if (kind := claim.get("kind", KIND)) != KIND:
        raise SettingError(f"Expected the run of a comparison, whose records are answers, got one of {kind}.")
    config = ComparisonConfig.of({key: value for key, value in claim.items() if key != "inputs"})
    records = first_draw(records_in(run))
    asked = _questions(config, records, questions)
    return RunAnswers(config, records, asked, _put(config, asked))


def _questions(
    config: ComparisonConfig, records: Sequence[AnswerRecord], sources: Sequence[str]
) -> dict[Key, Question]:
    given = [q for source in sources for q in read_questions(source)]
    known = {
        (d.name, q.id): q
        for d in config.datasets
        for q in given or read_questions(d.questions, split=d.split, usual=ASKED)
    }
    asked = dict.fromkeys((record.dataset, record.id) for record in records)
    if lacking := [key for key in asked if key not in known]:
        raise DataError(
            f"Expected the text of every question, found none of {len(lacking)}, such as {lacking[0][1]!r} of "
            f"{lacking[0][0]!r}; name the file that has them by --questions."
        )
    return {key: known[key] for key in asked}


def _put(config: ComparisonConfig, asked: Mapping[Key, Question]) -> dict[Key, Rendered]:
    formats = {d.name: config.format_of(d.name) for d in config.datasets}
    if not any(format.chat for format in formats.values()):
        return {key: formats[key[0]].render(question) for key, question in asked.items()}
    tokenizer = load_tokenizer(config.model, config.revision)
    return {key: formats[key[0]].put(question, tokenizer) for key, question in asked.items()}
