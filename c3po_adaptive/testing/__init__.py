"""Contract suites that every strategy runs, the package's own and plugins' alike, and toys to run them on.

Register it for pytest's assertion messages: ``pytest.register_assert_rewrite("c3po_adaptive.testing")`` in conftest.py.
"""

from ..models.tiny import tiny_moe, tiny_tokenizer, write_tiny_checkpoint
from .answerers import AnswererContract, toy_bench
from .kernels import KernelContract
from .optimizers import OptimizerContract
from .retrievers import RetrieverContract
from .selectors import SelectorContract
from .toy import ToyTraining, altered, toy_problem

__all__ = [
    "AnswererContract",
    "KernelContract",
    "OptimizerContract",
    "RetrieverContract",
    "SelectorContract",
    "ToyTraining",
    "altered",
    "tiny_moe",
    "tiny_tokenizer",
    "toy_bench",
    "toy_problem",
    "write_tiny_checkpoint",
]
