"""Studies: a configuration in, results out.

One kind of study is here, ``comparison`` (arms on questions); others are plugins' own, subclasses of ``Study`` that
their ``register_studies`` brings: ``StudyOnQuestions`` is the skeleton of those that ask a model questions. Pieces of
one are computed here, or by an ``Executor`` that a plugin's ``register_executors`` brings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..progress import Progress, silent
from ..settings import Settings
from ..storage.files import check_ours, write_text
from ..storage.folders import out_folder
from .executor import HERE, Done, Executor, Piece, done
from .poison import Poison, Poisoned
from .study_config import Datasets, OnQuestions, Spec

if TYPE_CHECKING:
    from ..models.footprint import Footprint
    from ..records.answer import AnswerRecord, ScoredAnswer
    from ..records.audit import Audit
    from ..records.base import Interval, Record
    from ..records.jsonl import Records, read_records
    from ..storage.identity import digest, digest_of_file, versions
    from ..storage.json_files import SCHEMA, Ours, checked, read_json
    from ..storage.run_folder import check_folder, made_by
    from ..storage.tensors import load_tensors, save_tensors
    from .arms import Arm, OnOneArm
    from .comparison import ComparisonConfig, ComparisonWorker
    from .comparison.run_answers import RunAnswers, answers_in
    from .kind import Study, Table, claimed
    from .on_questions import StudyOnQuestions
    from .plan import Plan
    from .worker import UNKNOWN, Worker
    from .worker_payload import WorkerPayload

__all__ = [
    "HERE",
    "SCHEMA",
    "UNKNOWN",
    "AnswerRecord",
    "Arm",
    "Audit",
    "ComparisonConfig",
    "ComparisonWorker",
    "Datasets",
    "Done",
    "Executor",
    "Footprint",
    "Interval",
    "OnOneArm",
    "OnQuestions",
    "Ours",
    "Piece",
    "Plan",
    "Poison",
    "Poisoned",
    "Progress",
    "Record",
    "Records",
    "RunAnswers",
    "ScoredAnswer",
    "Settings",
    "Spec",
    "Study",
    "StudyOnQuestions",
    "Table",
    "Worker",
    "WorkerPayload",
    "answers_in",
    "check_folder",
    "check_ours",
    "checked",
    "claimed",
    "command_line",
    "digest",
    "digest_of_file",
    "done",
    "load_tensors",
    "made_by",
    "out_folder",
    "read_json",
    "read_records",
    "save_tensors",
    "silent",
    "versions",
    "write_text",
]

_HOME = {
    "SCHEMA": "..storage.json_files",
    "UNKNOWN": ".worker",
    "AnswerRecord": "..records.answer",
    "Arm": ".arms",
    "Audit": "..records.audit",
    "ComparisonConfig": ".comparison",
    "ComparisonWorker": ".comparison",
    "Footprint": "..models.footprint",
    "Interval": "..records.base",
    "OnOneArm": ".arms",
    "Ours": "..storage.json_files",
    "Plan": ".plan",
    "Record": "..records.base",
    "Records": "..records.jsonl",
    "RunAnswers": ".comparison.run_answers",
    "ScoredAnswer": "..records.answer",
    "Study": ".kind",
    "StudyOnQuestions": ".on_questions",
    "Table": ".kind",
    "Worker": ".worker",
    "WorkerPayload": ".worker_payload",
    "answers_in": ".comparison.run_answers",
    "check_folder": "..storage.run_folder",
    "checked": "..storage.json_files",
    "claimed": ".kind",
    "digest": "..storage.identity",
    "digest_of_file": "..storage.identity",
    "load_tensors": "..storage.tensors",
    "made_by": "..storage.run_folder",
    "read_json": "..storage.json_files",
    "read_records": "..records.jsonl",
    "save_tensors": "..storage.tensors",
    "versions": "..storage.identity",
}


def command_line() -> str | None:
    """That which is being carried out, which files keep that it makes; None: they are made from Python."""
    from ..storage.run_folder import COMMAND

    return COMMAND.get()


def __getattr__(name: str) -> Any:
    """What takes seconds to import, when it is asked for: a configuration is checked without it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)
