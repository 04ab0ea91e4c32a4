"""Re-mix the expert pathways of frozen Mixture-of-Experts language models at test time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import moved as moved  # says where modules are that left
from .errors import suggestion

if TYPE_CHECKING:
    from .analysis.chance import above_chance
    from .analysis.over_kinds import over_units
    from .analysis.saved_run import SavedRun, load_run
    from .analysis.statistics import bootstrap_interval, gold_nll, holm, over_flips, over_values, sign_flip_p
    from .answerers.base import Answerer, AnswererStrategy, AnsweringContext
    from .api import Optimizer
    from .attribution import attribute
    from .checks import check_number
    from .errors import (
        ArtifactError,
        C3POError,
        DataError,
        ModelError,
        PluginError,
        SettingError,
        ShapeError,
        UnknownNameError,
    )
    from .hookspecs import hookimpl
    from .kernels.base import Kernel, QuestionFeatures, ReferenceFeatures
    from .ledger import Cost, Entry, Ledger, Work
    from .losses import right_answer_loss
    from .models.checkpoint import check_room, new_checkpoint, save_weights
    from .models.loading import load_moe_model
    from .models.names import public_name
    from .models.reading import TokenRouting, read_routing
    from .models.replaying import replaying
    from .models.routed import RoutedModel
    from .models.with_tensors import check_weights, router_tensors, with_tensors
    from .optimizers._question_features import KNOWN_AND_LOSS, form_of, known_of
    from .optimizers._reference_artifacts import GRADIENT, INTEGRATED_GRADIENT
    from .optimizers._simplex import allowed_experts, project, toward
    from .optimizers.base import PathwayOptimizer
    from .optimizers.descent import Descent
    from .optimizers.toward_mean import TowardMean
    from .problem import FaultTruth, LabeledProblem, Problem, ReferenceArtifact, ReferenceBatch, TrainingReferences
    from .progress import bar
    from .references.agreement import votes
    from .references.artifacts import taught
    from .references.build import labeled_questions, reference_set_of
    from .references.embedding import Embedder, default_embedder
    from .references.reference_set import ReferenceSet
    from .registry import Registry, default_registry, new_registry, rule_named
    from .remixing.presets import preset_named
    from .remixing.remixer import Remixer
    from .remixing.strategies import Strategies
    from .retrievers.base import Hits, Index, Retriever
    from .retrievers.cosine import CosineIndex
    from .routing.choice import Choice
    from .routing.finite import NotFinite
    from .routing.likelihoods import Likelihoods
    from .routing.packing import Packed
    from .routing.router_rules import LayerRouting, RoutingRule
    from .routing.rule_scores import Ruled
    from .routing.rules import PathwayRule
    from .routing.states import State
    from .routing.styles import Change
    from .routing.whole_prompts import PromptPrefix, WholePrompts
    from .rules.base import NamedRule
    from .selectors.attribution import Attribution
    from .selectors.base import LayerSelector
    from .selectors.causal import Causal
    from .selectors.scored import ScoredLayers
    from .settings import RemixSettings
    from .storage.files import check_there
    from .storage.folders import check_new, new_folder
    from .tasks.benchmarks import Benchmark, benchmark_named, published_questions
    from .tasks.formats import Format, as_format, description
    from .tasks.question_files import load_questions, read_question, read_rows
    from .tasks.texts import check_text
    from .types import Answer, Neighbours, Pathway, Prompt, Question, Selection

# Loaded on first use: importing the package must not import torch's and scikit-learn's weight with it.
_HOME = {
    "SavedRun": "analysis.saved_run",
    "load_run": "analysis.saved_run",
    "above_chance": "analysis.chance",
    "bootstrap_interval": "analysis.statistics",
    "gold_nll": "analysis.statistics",
    "holm": "analysis.statistics",
    "sign_flip_p": "analysis.statistics",
    "over_flips": "analysis.statistics",
    "over_units": "analysis.over_kinds",
    "over_values": "analysis.statistics",
    "Answerer": "answerers.base",
    "AnswererStrategy": "answerers.base",
    "AnsweringContext": "answerers.base",
    "Optimizer": "api",
    "attribute": "attribution",
    "check_number": "checks",
    "ArtifactError": "errors",
    "C3POError": "errors",
    "DataError": "errors",
    "ModelError": "errors",
    "PluginError": "errors",
    "SettingError": "errors",
    "ShapeError": "errors",
    "UnknownNameError": "errors",
    "hookimpl": "hookspecs",
    "Kernel": "kernels.base",
    "QuestionFeatures": "kernels.base",
    "ReferenceFeatures": "kernels.base",
    "Cost": "ledger",
    "Entry": "ledger",
    "Ledger": "ledger",
    "Work": "ledger",
    "right_answer_loss": "losses",
    "load_moe_model": "models.loading",
    "public_name": "models.names",
    "check_room": "models.checkpoint",
    "new_checkpoint": "models.checkpoint",
    "save_weights": "models.checkpoint",
    "check_weights": "models.with_tensors",
    "router_tensors": "models.with_tensors",
    "with_tensors": "models.with_tensors",
    "votes": "references.agreement",
    "taught": "references.artifacts",
    "labeled_questions": "references.build",
    "reference_set_of": "references.build",
    "Embedder": "references.embedding",
    "default_embedder": "references.embedding",
    "preset_named": "remixing.presets",
    "as_format": "tasks.formats",
    "description": "tasks.formats",
    "TokenRouting": "models.reading",
    "read_routing": "models.reading",
    "replaying": "models.replaying",
    "RoutedModel": "models.routed",
    "PathwayOptimizer": "optimizers.base",
    "KNOWN_AND_LOSS": "optimizers._question_features",
    "form_of": "optimizers._question_features",
    "known_of": "optimizers._question_features",
    "GRADIENT": "optimizers._reference_artifacts",
    "INTEGRATED_GRADIENT": "optimizers._reference_artifacts",
    "allowed_experts": "optimizers._simplex",
    "project": "optimizers._simplex",
    "toward": "optimizers._simplex",
    "Descent": "optimizers.descent",
    "TowardMean": "optimizers.toward_mean",
    "FaultTruth": "problem",
    "LabeledProblem": "problem",
    "Problem": "problem",
    "ReferenceArtifact": "problem",
    "ReferenceBatch": "problem",
    "TrainingReferences": "problem",
    "bar": "progress",
    "ReferenceSet": "references.reference_set",
    "Registry": "registry",
    "default_registry": "registry",
    "new_registry": "registry",
    "rule_named": "registry",
    "Remixer": "remixing.remixer",
    "Strategies": "remixing.strategies",
    "CosineIndex": "retrievers.cosine",
    "Hits": "retrievers.base",
    "Index": "retrievers.base",
    "Retriever": "retrievers.base",
    "Choice": "routing.choice",
    "NotFinite": "routing.finite",
    "Likelihoods": "routing.likelihoods",
    "Packed": "routing.packing",
    "LayerRouting": "routing.router_rules",
    "RoutingRule": "routing.router_rules",
    "State": "routing.states",
    "Change": "routing.styles",
    "PromptPrefix": "routing.whole_prompts",
    "WholePrompts": "routing.whole_prompts",
    "Ruled": "routing.rule_scores",
    "PathwayRule": "routing.rules",
    "NamedRule": "rules.base",
    "Attribution": "selectors.attribution",
    "LayerSelector": "selectors.base",
    "Causal": "selectors.causal",
    "ScoredLayers": "selectors.scored",
    "RemixSettings": "settings",
    "check_there": "storage.files",
    "check_new": "storage.folders",
    "new_folder": "storage.folders",
    "Benchmark": "tasks.benchmarks",
    "benchmark_named": "tasks.benchmarks",
    "published_questions": "tasks.benchmarks",
    "Format": "tasks.formats",
    "load_questions": "tasks.question_files",
    "read_question": "tasks.question_files",
    "read_rows": "tasks.question_files",
    "check_text": "tasks.texts",
    "Answer": "types",
    "Neighbours": "types",
    "Pathway": "types",
    "Prompt": "types",
    "Question": "types",
    "Selection": "types",
}
__all__ = [
    "GRADIENT",
    "INTEGRATED_GRADIENT",
    "KNOWN_AND_LOSS",
    "Answer",
    "Answerer",
    "AnswererStrategy",
    "AnsweringContext",
    "ArtifactError",
    "Attribution",
    "Benchmark",
    "C3POError",
    "Causal",
    "Change",
    "Choice",
    "CosineIndex",
    "Cost",
    "DataError",
    "Descent",
    "Embedder",
    "Entry",
    "FaultTruth",
    "Format",
    "Hits",
    "Index",
    "Kernel",
    "LabeledProblem",
    "LayerRouting",
    "LayerSelector",
    "Ledger",
    "Likelihoods",
    "ModelError",
    "NamedRule",
    "Neighbours",
    "NotFinite",
    "Optimizer",
    "Packed",
    "Pathway",
    "PathwayOptimizer",
    "PathwayRule",
    "PluginError",
    "Problem",
    "Prompt",
    "PromptPrefix",
    "Question",
    "QuestionFeatures",
    "ReferenceArtifact",
    "ReferenceBatch",
    "ReferenceFeatures",
    "ReferenceSet",
    "Registry",
    "RemixSettings",
    "Remixer",
    "Retriever",
    "RoutedModel",
    "RoutingRule",
    "Ruled",
    "SavedRun",
    "ScoredLayers",
    "Selection",
    "SettingError",
    "ShapeError",
    "State",
    "Strategies",
    "TokenRouting",
    "TowardMean",
    "TrainingReferences",
    "UnknownNameError",
    "WholePrompts",
    "Work",
    "above_chance",
    "allowed_experts",
    "as_format",
    "attribute",
    "bar",
    "benchmark_named",
    "bootstrap_interval",
    "check_new",
    "check_number",
    "check_room",
    "check_text",
    "check_there",
    "check_weights",
    "default_embedder",
    "default_registry",
    "description",
    "form_of",
    "gold_nll",
    "holm",
    "hookimpl",
    "known_of",
    "labeled_questions",
    "load_moe_model",
    "load_questions",
    "load_run",
    "new_checkpoint",
    "new_folder",
    "new_registry",
    "over_flips",
    "over_units",
    "over_values",
    "preset_named",
    "project",
    "public_name",
    "published_questions",
    "read_question",
    "read_routing",
    "read_rows",
    "reference_set_of",
    "replaying",
    "right_answer_loss",
    "router_tensors",
    "rule_named",
    "save_weights",
    "sign_flip_p",
    "taught",
    "toward",
    "votes",
    "with_tensors",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        hint = suggestion(name, _HOME, "name one of these.", "by dir(c3po_adaptive)")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; {hint}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
