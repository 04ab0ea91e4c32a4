"""Studies: a configuration in, results out.

One kind of study is here, ``comparison`` (arms on questions); others are plugins' own, subclasses of ``Study`` that
their ``register_studies`` brings: ``StudyOnQuestions`` is the skeleton of those that ask a model questions. Pieces of
one are computed here, or by an ``Executor`` that a plugin's ``register_executors`` brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import attach
from ..progress import Progress as Progress
from ..progress import by_size as by_size
from ..progress import silent as silent
from ..settings import Settings as Settings
from ..storage.files import atomic_file as atomic_file
from ..storage.files import check_ours as check_ours
from ..storage.files import write_text as write_text
from ..storage.folders import cache_folder as cache_folder
from ..storage.folders import out_folder as out_folder
from .executor import HERE as HERE
from .executor import Done as Done
from .executor import Executor as Executor
from .executor import Piece as Piece
from .executor import done as done
from .study_config import Datasets as Datasets
from .study_config import OnQuestions as OnQuestions
from .study_config import Poison as Poison
from .study_config import Poisoned as Poisoned
from .study_config import Spec as Spec
from .study_config import read_yaml as read_yaml

if TYPE_CHECKING:
    from ..models.fingerprint import settings_identity as settings_identity
    from ..models.footprint import Footprint as Footprint
    from ..records.answer import Answered as Answered
    from ..records.answer import AnswerRecord as AnswerRecord
    from ..records.answer import ScoredAnswer as ScoredAnswer
    from ..records.base import Interval as Interval
    from ..records.base import Part as Part
    from ..records.base import Record as Record
    from ..records.jsonl import Records as Records
    from ..records.jsonl import read_records as read_records
    from ..records.parquet import ModelIdentity as ModelIdentity
    from ..records.parquet import read_parquet as read_parquet
    from ..records.parquet import read_with_model as read_with_model
    from ..storage.identity import digest as digest
    from ..storage.identity import digest_of_file as digest_of_file
    from ..storage.identity import versions as versions
    from ..storage.json_files import SCHEMA as SCHEMA
    from ..storage.json_files import Ours as Ours
    from ..storage.json_files import checked as checked
    from ..storage.json_files import holds as holds
    from ..storage.json_files import read_json as read_json
    from ..storage.run_folder import check_folder as check_folder
    from ..storage.run_folder import claimed_config as claimed_config
    from ..storage.run_folder import command_line as command_line
    from ..storage.run_folder import made_by as made_by
    from ..storage.tensors import load_tensors as load_tensors
    from ..storage.tensors import save_tensors as save_tensors
    from .arms import Arm as Arm
    from .arms import OnOneArm as OnOneArm
    from .comparison import ComparisonConfig as ComparisonConfig
    from .comparison import ComparisonWorker as ComparisonWorker
    from .comparison.audited import Audit as Audit
    from .kind import Study as Study
    from .kind import Table as Table
    from .kind import claimed as claimed
    from .on_questions import StudyOnQuestions as StudyOnQuestions
    from .plan import Plan as Plan
    from .worker import UNKNOWN as UNKNOWN
    from .worker import Worker as Worker

# What takes seconds to import, when it is asked for: a configuration is checked without it.
__getattr__, __dir__, __all__ = attach(__name__, __file__)
