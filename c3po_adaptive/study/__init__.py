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
    from ..records.answer import AnswerRecord
    from .comparison.run_answers import RunAnswers, answers_in
    from .kind import Study, Table, claimed
    from .plan import Plan
    from .worker_payload import WorkerPayload

__all__ = [
    "HERE",
    "AnswerRecord",
    "Done",
    "Executor",
    "Piece",
    "Plan",
    "Poison",
    "Poisoned",
    "Progress",
    "RunAnswers",
    "Settings",
    "Spec",
    "Study",
    "Table",
    "WorkerPayload",
    "answers_in",
    "check_ours",
    "claimed",
    "done",
    "out_folder",
    "silent",
    "write_text",
]

_HOME = {
    "AnswerRecord": "..records.answer",
    "Plan": ".plan",
    "RunAnswers": ".comparison.run_answers",
    "Study": ".kind",
    "Table": ".kind",
    "WorkerPayload": ".worker_payload",
    "answers_in": ".comparison.run_answers",
    "claimed": ".kind",
}


def __getattr__(name: str) -> Any:
    """What takes seconds to import, when it is asked for: a configuration is checked without it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)
