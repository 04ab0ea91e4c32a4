"""Records of a run in the harness's sample log format: a folder for each arm, as if each were a model of its own.

Laid out as by ``lm_eval``'s ``EvaluationTracker``, without need of it: ``MODEL/results_DATE.json``, and
``MODEL/samples_TASK_DATE.jsonl`` for each data set.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from .. import former
from ..analysis.asked_with import format_of
from ..analysis.kept import whole_records
from ..analysis.statistics import first_draw
from ..errors import DataError, SettingError
from ..models.loading import load_tokenizer
from ..models.names import public_name
from ..storage.files import check_ours, write_text
from ..storage.json_files import SCHEMA, holds, read_json
from ..storage.run_folder import RECORDS, claimed_config
from ..study.comparison import STUDY
from ..study.comparison.config import ComparisonConfig
from ..study.data import source_of
from ..study.kind import study_in
from ..tasks.formats import Rendered
from ..tasks.sources import questions as read_questions
from ..types import Question

Record = Mapping[str, Any]


def export_samples(run: Path | str, out: Path | str, questions: Sequence[str] = ()) -> list[Path]:
    """Write a run's records for tools that read logs of the harness.

    A sample's ``resps`` are the scores that the choice was made by: log-likelihoods, divided as the run's format says;
    whether each is greedy, records do not tell. Beside what the harness writes stand ``choice``, ``base_choice`` and
    ``layers``. Of an arm in several draws it is the first. A name that cannot be a file's gets a hash behind it.

    Args:
        run: the folder of a comparison, finished or not.
        out: folder to write to.
        questions: sources with the texts of questions; default: where the configuration has them from.

    Returns:
        The folder of each arm.

    Raises:
        SettingError: a run of another kind, which holds no answers.
        DataError: no run, a question whose text is in none of the sources, or others' files lie where its would.
    """
    run, out = Path(run), Path(out)
    if (kind := study_in(run).kind) != STUDY.kind:
        raise SettingError(f"Expected the run of a comparison, whose records are answers, got one of {kind}.")
    claimed = claimed_config(run)
    claimed.pop("inputs", None)
    with former.silently():
        config = STUDY.parse(claimed)
    records = first_draw(whole_records(run))
    texts = _texts(config, records, questions)
    put = _put(config, texts)
    answered = datetime.fromtimestamp((run / RECORDS).stat().st_mtime)
    folders = []
    for arm in dict.fromkeys(record["arm"] for record in records):
        own = [record for record in records if record["arm"] == arm]
        folders.append(_write(out, config, arm, _samples(own, texts, put), own, answered))
    return folders


Key = tuple[str, str]
"""Data set and id of a question."""


def _texts(config: ComparisonConfig, records: Sequence[Record], sources: Sequence[str]) -> dict[Key, Question]:
    """The questions that were answered, in one order for all arms."""
    given = [q for source in sources for q in read_questions(source)]
    known = {(d.name, q.id): q for d in config.datasets for q in given or source_of(d)}
    asked = dict.fromkeys((record["dataset"], record["id"]) for record in records)
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


def _samples(
    records: Sequence[Record], texts: Mapping[Key, Question], put: Mapping[Key, Rendered]
) -> dict[str, list[dict[str, Any]]]:
    """Of one arm, by data set; a document's number is the same in every arm."""
    numbers: dict[Key, int] = {}
    counts: dict[str, int] = {}
    for dataset, id_ in texts:
        numbers[dataset, id_] = counts[dataset] = counts.get(dataset, -1) + 1
    samples: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        key = record["dataset"], record["id"]
        samples.setdefault(record["dataset"], []).append(_sample(record, numbers[key], texts[key], put[key]))
    return {dataset: sorted(some, key=lambda sample: int(sample["doc_id"])) for dataset, some in samples.items()}


def _sample(record: Record, number: int, question: Question, put: Rendered) -> dict[str, Any]:
    doc = asdict(question)
    if question.answer not in (None, record["answer"]) or len(put.options) != len(record["scores"]):
        raise DataError(
            f"Expected {question.id!r} with {len(record['scores'])} choices and the answer {record['answer']}, got "
            f"{len(put.options)} and {question.answer}; give the questions that the run was made with."
        )
    target = str(record["answer"])
    responses = [[str(score), "None"] for score in record["scores"]]
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
        "acc": float(record["correct"]),
        **{key: record[key] for key in ("choice", "base_choice", "layers")},
    }


def _write(
    out: Path,
    config: ComparisonConfig,
    arm: str,
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    records: Sequence[Record],
    answered: datetime,
) -> Path:
    """The arm's folder."""
    name = f"{public_name(config.model)}__{_apart(arm)}"
    folder, date = out / _as_file(name), answered.isoformat().replace(":", "-")
    results = f"results_{date}.json"
    logs = {dataset: f"samples_{_as_file(_apart(dataset))}_{date}.jsonl" for dataset in samples}
    check_ours(folder, (results, *logs.values()), lambda name: _is_export(folder / results))
    told = _results(config, name, samples, records) | {"date": answered.timestamp()}
    write_text(folder / results, json.dumps(told, indent=2, ensure_ascii=False))  # first: it says whose the others are
    for dataset, some in samples.items():
        write_text(folder / logs[dataset], "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some))
    return folder


def _is_export(results: Path) -> bool:
    """Whether results are ours, not the harness's own."""
    config = read_json(results, "name another --out")["config"] if holds(results, ("results", "config")) else None
    return isinstance(config, dict) and config.get("model") == "c3po"


def _results(
    config: ComparisonConfig,
    name: str,
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    records: Sequence[Record],
) -> dict[str, Any]:
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
                "arm": records[0]["arm"],
                "formats": {name: format_of(plain, name) for name in samples},
                **records[0]["setting"],
            },
        },
        "task_hashes": {
            dataset: _hash("".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in some))
            for dataset, some in samples.items()
        },
        "model_source": "c3po",
        "model_name": name,
        "model_name_sanitized": _as_file(name),
        "total_evaluation_time_seconds": str(round(sum(record["seconds"] for record in records), 3)),
    }


def _accuracy(dataset: str, right: Sequence[float]) -> dict[str, Any]:
    error: float | str = statistics.stdev(right) / len(right) ** 0.5 if len(right) > 1 else "N/A"
    told = {"name": dataset, "alias": dataset, "sample_len": len(right)}
    return told | {"acc,none": statistics.fmean(right), "acc_stderr,none": error}


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _apart(name: str) -> str:
    """A name that no other one shares a file with: what the harness would write otherwise gets a hash behind it."""
    plain = re.sub(r"[\x00-\x1f\x7f]+", "__", name)
    return name if _as_file(plain) == name else f"{plain}-{_hash(name)[:8]}"


def _as_file(name: str) -> str:
    """A name as the harness has it in file names."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)
