"""Studies: a configuration in, results out.

A kind of study is one folder here, which exports its ``STUDY``, such as ``comparison`` (arms on questions); or a
plugin's own, a subclass of ``Study`` that its ``register_studies`` brings. Pieces of one are computed here, or by an
``Executor`` that a plugin's ``register_executors`` brings.
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
from .study_config import Spec

if TYPE_CHECKING:
    from ..records.answer import AnswerRecord, ScoredAnswer
    from ..records.audit import Audit
    from ..records.base import Record
    from ..records.jsonl import Records, read_records
    from ..storage.identity import digest, versions
    from ..storage.run_folder import check_folder, made_by
    from .comparison.run_answers import RunAnswers, answers_in
    from .kind import Study, Table, claimed
    from .plan import Plan
    from .worker_payload import WorkerPayload

__all__ = [
    "HERE",
    "AnswerRecord",
    "Audit",
    "Done",
    "Executor",
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
    "Table",
    "WorkerPayload",
    "answers_in",
    "check_folder",
    "check_ours",
    "claimed",
    "digest",
    "done",
    "made_by",
    "out_folder",
    "read_records",
    "silent",
    "versions",
    "write_text",
]

_HOME = {
    "AnswerRecord": "..records.answer",
    "Audit": "..records.audit",
    "Plan": ".plan",
    "Record": "..records.base",
    "Records": "..records.jsonl",
    "RunAnswers": ".comparison.run_answers",
    "ScoredAnswer": "..records.answer",
    "Study": ".kind",
    "Table": ".kind",
    "WorkerPayload": ".worker_payload",
    "answers_in": ".comparison.run_answers",
    "check_folder": "..storage.run_folder",
    "claimed": ".kind",
    "digest": "..storage.identity",
    "made_by": "..storage.run_folder",
    "read_records": "..records.jsonl",
    "versions": "..storage.identity",
}


def __getattr__(name: str) -> Any:
    """What takes seconds to import, when it is asked for: a configuration is checked without it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)
