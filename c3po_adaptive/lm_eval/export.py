"""Records of a run in the harness's sample log format: a folder for each arm, as if each were a model of its own.

Laid out as by ``lm_eval``'s ``EvaluationTracker``, without need of it: ``MODEL/results_DATE.json``, and
``MODEL/samples_TASK_DATE.jsonl`` for each data set.
"""

from __future__ import annotations

import json
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TypedDict

from ..analysis.comparison_folder import records_in
from ..analysis.dataset_in_words import format_of
from ..analysis.statistics import first_draw
from ..errors import DataError, SettingError
from ..models.loading import load_tokenizer
from ..models.names import public_name
from ..records.answer import AnswerRecord
from ..storage.files import check_ours, write_text
from ..storage.folders import refuse_home_and_projects, writable_folder
from ..storage.json_files import SCHEMA, holds, read_json
from ..storage.json_values import Values
from ..storage.run_folder import RECORDS, claimed_config
from ..study.comparison import STUDY
from ..study.comparison.comparison_config import ComparisonConfig
from ..study.data import source_of
from ..study.kind import study_in
from ..tasks.formats import Rendered
from ..tasks.sources import questions as read_questions
from ..types import Question


def export_samples(run: Path | str, out: Path | str, questions: Sequence[str] = ()) -> list[Path]:
    """Write a run's records for tools that read logs of the harness.

    A sample's ``resps`` are the scores that the choice was made by: log-likelihoods, divided as the run's format says;
    whether each is greedy, records do not tell. Beside what the harness writes stand ``choice``, ``base_choice`` and
    ``layers``. Of an arm in several draws it is the first. A name that cannot be a file's gets a hash behind it, and
    so do names that differ in capitals alone, which some disks do not tell apart.

    Args:
        run: the folder of a comparison, finished or not.
        out: folder to write to.
        questions: sources with the texts of questions; default: where the configuration has them from.

    Returns:
        The folder of each arm.

    Raises:
        SettingError: a run of another kind, which holds no answers.
        DataError: no run, a question whose text is in none of the sources, others' files lie where its would, or
            ``out`` cannot be written, or is a project's or your home.
    """
    run, out = Path(run), Path(out)
    refuse_home_and_projects(writable_folder(out))
    if (kind := study_in(run).kind) != STUDY.kind:
        raise SettingError(f"Expected the run of a comparison, whose records are answers, got one of {kind}.")
    claimed = claimed_config(run)
    claimed.pop("inputs", None)
    config = STUDY.parse(claimed)
    records = first_draw(records_in(run))
    texts = _texts(config, records, questions)
    put = _put(config, texts)
    answered = datetime.fromtimestamp((run / RECORDS).stat().st_mtime)
    by_arm = {name: [r for r in records if r.arm == name] for name in dict.fromkeys(r.arm for r in records)}
    names = _apart(by_arm)
    for arm, own in by_arm.items():  # all of them, before the first is written
        _check(*_files(out, config, names[arm], [record.dataset for record in own], answered))
    return [_write(out, config, names[arm], _samples(own, texts, put), own, answered) for arm, own in by_arm.items()]


Key = tuple[str, str]
"""Data set and id of a question."""


def _texts(config: ComparisonConfig, records: Sequence[AnswerRecord], sources: Sequence[str]) -> dict[Key, Question]:
    """The questions that were answered, in one order for all arms."""
    given = [q for source in sources for q in read_questions(source)]
    known = {(d.name, q.id): q for d in config.datasets for q in given or source_of(d)}
    asked = dict.fromkeys((record.dataset, record.id) for record in records)
    if lacking := [key for key in asked if key not in known]:
        raise DataError(
            f"Expected the text of every question, found none of {len(lacking)}, such as {lacking[0][1]!r} of "
            f"{lacking[0][0]!r}; name the file that has them by --questions."
        )
    return {key: known[key] for key in asked}


def _put(config: ComparisonConfig, texts: Mapping[Key, Question]) -> dict[Key, Rendered]:
    """As the model was given them, each in its data set's format."""
    formats = {d.name: config.format_of(d.name) for d in config.datasets}
    if not any(format.chat for format in formats.values()):
        return {key: formats[key[0]].render(question) for key, question in texts.items()}
    tokenizer = load_tokenizer(config.model, config.revision)
    return {key: formats[key[0]].put(question, tokenizer) for key, question in texts.items()}


class Sample(TypedDict):
    """A line of the harness's log of samples."""

    doc_id: int
    doc: Values
    target: str
    arguments: dict[str, dict[str, str]]
    resps: list[list[list[str]]]
    filtered_resps: list[list[str]]
    filter: str
    metrics: list[str]
    doc_hash: str
    prompt_hash: str
    target_hash: str
    acc: float
    choice: int
    base_choice: int | None
    layers: list[int]


def _samples(
    records: Sequence[AnswerRecord], texts: Mapping[Key, Question], put: Mapping[Key, Rendered]
) -> dict[str, list[Sample]]:
    """Of one arm, by data set; a document's number is the same in every arm."""
    numbers: dict[Key, int] = {}
    counts: dict[str, int] = {}
    for dataset, id_ in texts:
        numbers[dataset, id_] = counts[dataset] = counts.get(dataset, -1) + 1
    samples: dict[str, list[Sample]] = {}
    for record in records:
        key = record.dataset, record.id
        samples.setdefault(record.dataset, []).append(_sample(record, numbers[key], texts[key], put[key]))
    return {dataset: sorted(some, key=lambda sample: sample["doc_id"]) for dataset, some in samples.items()}


def _sample(record: AnswerRecord, number: int, question: Question, put: Rendered) -> Sample:
    if record.chosen_by != "likelihood":
        raise SettingError(
            f"Expected answers by likelihood, which the harness logs as such, got {record.dataset!r} with score: "
            "generated; leave it out of the run."
        )
    doc = question.row()
    if question.answer not in (None, record.answer) or len(put.options) != len(record.scores):
        raise DataError(
            f"Expected {question.id!r} with {len(record.scores)} choices and the answer {record.answer}, got "
            f"{len(put.options)} and {question.answer}; give the questions that the run was made with."
        )
    target = str(record.answer)
    responses = [[str(score), "None"] for score in record.scores]
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {f"gen_args_{i}": {"arg_0": put.prompt, "arg_1": option} for i, option in enumerate(put.options)},
        "resps": [[response] for response in responses],
        "filtered_resps": responses,
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(put.prompt),
        "target_hash": _hash(target),
        "acc": float(record.correct),
        "choice": record.choice,
        "base_choice": record.base_choice,
        "layers": list(record.layers),
    }


def _write(
    out: Path,
    config: ComparisonConfig,
    arm: str,
    samples: Mapping[str, Sequence[Sample]],
    records: Sequence[AnswerRecord],
    answered: datetime,
) -> Path:
    """The arm's folder; ``arm`` is its name apart from others'."""
    files = results, logs = _files(out, config, arm, samples, answered)
    _check(*files)
    told = _results(config, _model_name(config, arm), samples, records) | {"date": answered.timestamp()}
    write_text(results, json.dumps(told, indent=2, ensure_ascii=False))  # first: it says whose the others are
    for dataset, some in samples.items():
        write_text(logs[dataset], "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some))
    return results.parent


def _files(
    out: Path, config: ComparisonConfig, arm: str, datasets: Iterable[str], answered: datetime
) -> tuple[Path, dict[str, Path]]:
    """Of an arm: that of results, and that of each data set's samples."""
    folder, date = out / _as_file(_model_name(config, arm)), answered.isoformat().replace(":", "-")
    logs = {name: folder / f"samples_{_as_file(apart)}_{date}.jsonl" for name, apart in _apart(datasets).items()}
    return folder / f"results_{date}.json", logs


def _check(results: Path, logs: Mapping[str, Path]) -> None:
    """Refuse an arm's folder where others' files lie under these names."""
    check_ours(results.parent, [path.name for path in (results, *logs.values())], lambda name: _is_export(results))


def _model_name(config: ComparisonConfig, arm: str) -> str:
    return f"{public_name(config.model)}__{arm}"


def _is_export(results: Path) -> bool:
    """Whether results are ours, not the harness's own."""
    config = read_json(results, "name another --out")["config"] if holds(results, ("results", "config")) else None
    return isinstance(config, dict) and config.get("model") == "c3po"


def _results(
    config: ComparisonConfig,
    name: str,
    samples: Mapping[str, Sequence[Sample]],
    records: Sequence[AnswerRecord],
) -> dict[str, object]:
    """What their tables are made from."""
    plain = config.model_dump(mode="json")
    formats = {d.name: config.format_of(d.name) for d in config.datasets}
    shots = {dataset: len(formats[dataset].shots) for dataset in samples}
    return {
        "results": {dataset: _accuracy(dataset, [s["acc"] for s in some]) for dataset, some in samples.items()},
        "group_subtasks": {},
        "configs": {
            d.name: {
                "task": d.name,
                "dataset_path": d.questions,
                "output_type": "multiple_choice",
                "num_fewshot": len(formats[d.name].shots),
            }
            for d in config.datasets
        },
        "versions": dict.fromkeys(samples, SCHEMA),
        "n-shot": shots,
        "higher_is_better": {dataset: {"acc": True} for dataset in samples},
        "n-samples": {dataset: {"original": len(some), "effective": len(some)} for dataset, some in samples.items()},
        "config": {
            "model": "c3po",
            "model_args": {"pretrained": config.model, "revision": config.revision, "dtype": config.dtype},
            "batch_size": config.batch_size,
            "random_seed": config.seed,
            "c3po": {
                "arm": records[0].arm,
                "formats": {name: format_of(plain, name) for name in samples},
                **records[0].setting.model_dump(mode="json"),
            },
        },
        "task_hashes": {
            dataset: _hash("".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in some))
            for dataset, some in samples.items()
        },
        "model_source": "c3po",
        "model_name": name,
        "model_name_sanitized": _as_file(name),
        "total_evaluation_time_seconds": str(round(sum(record.seconds for record in records), 3)),
    }


def _accuracy(dataset: str, right: Sequence[float]) -> dict[str, str | float]:
    error: float | str = statistics.stdev(right) / len(right) ** 0.5 if len(right) > 1 else "N/A"
    told: dict[str, str | float] = {"name": dataset, "alias": dataset, "sample_len": len(right)}
    return told | {"acc,none": statistics.fmean(right), "acc_stderr,none": error}


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _apart(names: Iterable[str]) -> dict[str, str]:
    """For each name one that no other shares a file with: what the harness would write otherwise, or what differs from
    another in capitals alone, gets a hash behind it.
    """
    plain = {name: re.sub(r"[\x00-\x1f\x7f]+", "__", name) for name in names}
    alike = Counter(_on_any_disk(name) for name in plain)
    alone = {name for name in plain if _as_file(plain[name]) == name and alike[_on_any_disk(name)] == 1}
    return {name: name if name in alone else f"{told}-{_hash(name)[:8]}" for name, told in plain.items()}


def _on_any_disk(name: str) -> str:
    """A name as the disk has it that tells the fewest apart."""
    return unicodedata.normalize("NFKC", name).casefold()


def _as_file(name: str) -> str:
    """A name as the harness has it in file names."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)
