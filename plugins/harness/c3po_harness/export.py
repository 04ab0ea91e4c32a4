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
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict

from c3po_adaptive import DataError, SettingError, public_name
from c3po_adaptive.study import AnswerRecord, check_ours, out_folder, write_text

from .run_answers import RunAnswers, answers_in

RECORDS = "records.jsonl"


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
    folder, answers = out_folder(out), answers_in(run, questions)
    date = datetime.fromtimestamp((Path(run) / RECORDS).stat().st_mtime)
    by_arm: dict[str, list[AnswerRecord]] = {}
    for record in answers.records:
        by_arm.setdefault(record.arm, []).append(record)
    model, names = public_name(answers.config.model), _apart(by_arm)
    logs = {
        arm: _Log.of(folder, f"{model}__{names[arm]}", [r.dataset for r in own], date) for arm, own in by_arm.items()
    }
    for log in logs.values():  # all of them, before the first is written
        log.check()
    for arm, log in logs.items():
        samples = _samples(answers, by_arm[arm])
        log.write(_results(answers, log.model, samples, by_arm[arm]) | {"date": date.timestamp()}, samples)
    return [log.results.parent for log in logs.values()]


class Sample(TypedDict):
    """A line of the harness's log of samples."""

    doc_id: int
    doc: Mapping[str, Any]
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


@dataclass(frozen=True)
class _Log:
    """Of an arm.

    Attributes:
        model: what the arm is called, as if it were a model.
        results: the file of what all answers are worth.
        samples: of the answers to each data set.
    """

    model: str
    results: Path
    samples: Mapping[str, Path]

    @classmethod
    def of(cls, out: Path, model: str, datasets: Iterable[str], answered: datetime) -> _Log:
        folder, date = out / _as_file(model), answered.isoformat().replace(":", "-")
        samples = {name: folder / f"samples_{_as_file(apart)}_{date}.jsonl" for name, apart in _apart(datasets).items()}
        return cls(model, folder / f"results_{date}.json", samples)

    def check(self) -> None:
        """Refuse its folder where others' files lie under these names."""
        names = [path.name for path in (self.results, *self.samples.values())]
        check_ours(self.results.parent, names, lambda name: _is_export(self.results))

    def write(self, results: Mapping[str, object], samples: Mapping[str, Sequence[Sample]]) -> None:
        self.check()
        whose = json.dumps(results, indent=2, ensure_ascii=False)
        write_text(self.results, whose)  # first: it says whose the others are
        for dataset, some in samples.items():
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in some]
            write_text(self.samples[dataset], "".join(lines))


def _is_export(results: Path) -> bool:
    """Whether results are ours, not the harness's own."""
    try:
        found = json.loads(results.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    config = found.get("config") if isinstance(found, dict) and "results" in found else None
    return isinstance(config, dict) and config.get("model") == "c3po"


def _samples(answers: RunAnswers, records: Sequence[AnswerRecord]) -> dict[str, list[Sample]]:
    """Of one arm, by data set; a document's number is the same in every arm."""
    numbers: dict[tuple[str, str], int] = {}
    counts: dict[str, int] = {}
    for dataset, id_ in answers.questions:
        numbers[dataset, id_] = counts[dataset] = counts.get(dataset, -1) + 1
    samples: dict[str, list[Sample]] = {}
    for record in records:
        samples.setdefault(record.dataset, []).append(_sample(answers, record, numbers[record.dataset, record.id]))
    return {dataset: sorted(some, key=lambda sample: sample["doc_id"]) for dataset, some in samples.items()}


def _sample(answers: RunAnswers, record: AnswerRecord, number: int) -> Sample:
    if record.chosen_by != "likelihood":
        raise SettingError(
            f"Expected answers by likelihood, which the harness logs as such, got {record.dataset!r} with score: "
            "generated; leave it out of the run."
        )
    key = record.dataset, record.id
    question, put = answers.questions[key], answers.put[key]
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


def _results(
    answers: RunAnswers,
    name: str,
    samples: Mapping[str, Sequence[Sample]],
    records: Sequence[AnswerRecord],
) -> dict[str, object]:
    """What their tables are made from."""
    config = answers.config
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
        "versions": dict.fromkeys(samples, records[0].schema_version),
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
                "formats": {name: answers.format_in_words(name) for name in samples},
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
