"""Re-mix the expert pathways of frozen Mixture-of-Experts language models at test time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import moved  # noqa: F401  # says where modules are that left
from ._lazy import attach

if TYPE_CHECKING:
    from .analysis.chance import above_chance as above_chance
    from .analysis.over_kinds import over_units as over_units
    from .analysis.saved_run import SavedRun as SavedRun
    from .analysis.saved_run import load_run as load_run
    from .analysis.statistics import bootstrap_interval as bootstrap_interval
    from .analysis.statistics import over_flips as over_flips
    from .analysis.statistics import over_values as over_values
    from .answerers.base import Answerer as Answerer
    from .answerers.base import AnswererStrategy as AnswererStrategy
    from .answerers.base import AnsweringContext as AnsweringContext
    from .api import Optimizer as Optimizer
    from .attribution import attribute as attribute
    from .checks import check_number as check_number
    from .errors import ArtifactError as ArtifactError
    from .errors import C3POError as C3POError
    from .errors import DataError as DataError
    from .errors import ModelError as ModelError
    from .errors import PluginError as PluginError
    from .errors import SettingError as SettingError
    from .errors import ShapeError as ShapeError
    from .errors import UnknownNameError as UnknownNameError
    from .hookspecs import hookimpl as hookimpl
    from .kernels.base import Kernel as Kernel
    from .kernels.base import QuestionFeatures as QuestionFeatures
    from .kernels.base import ReferenceFeatures as ReferenceFeatures
    from .ledger import Cost as Cost
    from .ledger import Entry as Entry
    from .ledger import Ledger as Ledger
    from .ledger import Work as Work
    from .losses import right_answer_loss as right_answer_loss
    from .models.checkpoint import check_room as check_room
    from .models.checkpoint import new_checkpoint as new_checkpoint
    from .models.checkpoint import save_weights as save_weights
    from .models.loading import load_moe_model as load_moe_model
    from .models.names import public_name as public_name
    from .models.reading import TokenRouting as TokenRouting
    from .models.reading import read_routing as read_routing
    from .models.replaying import replaying as replaying
    from .models.routed import RoutedModel as RoutedModel
    from .models.with_tensors import router_tensors as router_tensors
    from .models.with_tensors import with_tensors as with_tensors
    from .optimizers._question_features import KNOWN_AND_LOSS as KNOWN_AND_LOSS
    from .optimizers._question_features import form_of as form_of
    from .optimizers._question_features import known_of as known_of
    from .optimizers._reference_artifacts import GRADIENT as GRADIENT
    from .optimizers._reference_artifacts import INTEGRATED_GRADIENT as INTEGRATED_GRADIENT
    from .optimizers._simplex import allowed_experts as allowed_experts
    from .optimizers._simplex import project as project
    from .optimizers._simplex import toward as toward
    from .optimizers.base import PathwayOptimizer as PathwayOptimizer
    from .optimizers.descent import Descent as Descent
    from .optimizers.toward_mean import TowardMean as TowardMean
    from .problem import FaultTruth as FaultTruth
    from .problem import LabeledProblem as LabeledProblem
    from .problem import Problem as Problem
    from .problem import ReferenceArtifact as ReferenceArtifact
    from .problem import ReferenceBatch as ReferenceBatch
    from .problem import TrainingReferences as TrainingReferences
    from .progress import bar as bar
    from .references.agreement import votes as votes
    from .references.artifacts import taught as taught
    from .references.build import labeled_questions as labeled_questions
    from .references.build import reference_set_of as reference_set_of
    from .references.embedding import Embedder as Embedder
    from .references.embedding import default_embedder as default_embedder
    from .references.reference_set import ReferenceSet as ReferenceSet
    from .registry import Registry as Registry
    from .registry import default_registry as default_registry
    from .registry import new_registry as new_registry
    from .registry import rule_named as rule_named
    from .remixing.presets import preset_named as preset_named
    from .remixing.remixer import Remixer as Remixer
    from .remixing.strategies import Strategies as Strategies
    from .retrievers.base import Hits as Hits
    from .retrievers.base import Index as Index
    from .retrievers.base import Retriever as Retriever
    from .retrievers.cosine import CosineIndex as CosineIndex
    from .routing.choice import Choice as Choice
    from .routing.finite import NotFinite as NotFinite
    from .routing.likelihoods import Likelihoods as Likelihoods
    from .routing.packing import Packed as Packed
    from .routing.router_rules import LayerRouting as LayerRouting
    from .routing.router_rules import RoutingRule as RoutingRule
    from .routing.rule_scores import Ruled as Ruled
    from .routing.rules import PathwayRule as PathwayRule
    from .routing.states import State as State
    from .routing.styles import Change as Change
    from .routing.whole_prompts import PromptPrefix as PromptPrefix
    from .routing.whole_prompts import WholePrompts as WholePrompts
    from .rules.base import NamedRule as NamedRule
    from .selectors.base import LayerSelector as LayerSelector
    from .selectors.scored import ScoredLayers as ScoredLayers
    from .settings import RemixSettings as RemixSettings
    from .storage.files import check_there as check_there
    from .storage.folders import new_folder as new_folder
    from .tasks.benchmarks import Benchmark as Benchmark
    from .tasks.benchmarks import benchmark_named as benchmark_named
    from .tasks.benchmarks import published_questions as published_questions
    from .tasks.formats import Format as Format
    from .tasks.formats import as_format as as_format
    from .tasks.formats import description as description
    from .tasks.question_files import load_questions as load_questions
    from .tasks.question_files import read_question as read_question
    from .tasks.question_files import read_rows as read_rows
    from .tasks.texts import check_text as check_text
    from .types import Answer as Answer
    from .types import Neighbours as Neighbours
    from .types import Pathway as Pathway
    from .types import Prompt as Prompt
    from .types import Question as Question
    from .types import Selection as Selection

# Loaded on first use: importing the package must not import torch's and scikit-learn's weight with it.
__getattr__, __dir__, __all__ = attach(__name__, __file__)
