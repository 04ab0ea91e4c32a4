"""Studies: a configuration in, results out.

A kind of study is one folder here, which exports its ``STUDY``, such as ``comparison`` (arms on questions); or a
plugin's own, a subclass of ``Study`` that its ``register_studies`` brings.
"""

from ..progress import Progress, silent
from ..settings import Settings
from ..storage.files import write_text
from .executor import HERE, Executor
from .kind import Study, Table, claimed
from .plan import Plan
from .study_config import Spec

__all__ = [
    "HERE",
    "Executor",
    "Plan",
    "Progress",
    "Settings",
    "Spec",
    "Study",
    "Table",
    "claimed",
    "silent",
    "write_text",
]
