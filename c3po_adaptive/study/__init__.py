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
from ..storage.files import write_text
from .executor import HERE, Done, Executor, Piece, done
from .poison import Poison, Poisoned
from .study_config import Spec

if TYPE_CHECKING:
    from .kind import Study, Table, claimed
    from .plan import Plan
    from .worker_payload import WorkerPayload

__all__ = [
    "HERE",
    "Done",
    "Executor",
    "Piece",
    "Plan",
    "Poison",
    "Poisoned",
    "Progress",
    "Settings",
    "Spec",
    "Study",
    "Table",
    "WorkerPayload",
    "claimed",
    "done",
    "silent",
    "write_text",
]

_HOME = {"Study": "kind", "Table": "kind", "claimed": "kind", "Plan": "plan", "WorkerPayload": "worker_payload"}


def __getattr__(name: str) -> Any:
    """What takes seconds to import, when it is asked for: a configuration is checked without it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
