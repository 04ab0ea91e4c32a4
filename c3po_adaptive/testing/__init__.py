"""Contract suites that every strategy runs, the package's own and plugins' alike, and toys to run them on.

``c3po plugins check`` runs them without pytest; a plugin's own tests subclass them and supply one fixture.
"""

from ..models.tiny import tiny_moe, tiny_tokenizer, write_tiny_checkpoint
from .answerers import AnswererContract, toy_context
from .kernels import KernelContract
from .optimizers import OptimizerContract
from .retrievers import RetrieverContract
from .rules import RuleContract
from .selectors import SelectorContract
from .toy import ToyTraining, altered, toy_problem, toy_references

__all__ = [
    "AnswererContract",
    "KernelContract",
    "OptimizerContract",
    "RetrieverContract",
    "RuleContract",
    "SelectorContract",
    "ToyTraining",
    "altered",
    "tiny_moe",
    "tiny_tokenizer",
    "toy_context",
    "toy_problem",
    "toy_references",
    "write_tiny_checkpoint",
]
