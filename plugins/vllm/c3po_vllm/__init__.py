"""Pathways served by a stock vLLM: what a request carries, how it is admitted, and the plugin that carries it out.

And what engines say of their routing as traces, and traces as they say it, for ``c3po trace import`` and ``export``.
"""

from .engine_exports import export_trace
from .engine_traces import from_prime_rl, from_sglang, from_vllm
from .export import export_for_vllm
from .forced import TRACE_KEY, TraceRequest, trace_request
from .llama_traces import from_llama_cpp
from .request import KEY, PathwayRequest, acted, change_request, pathway_request

__all__ = [
    "KEY",
    "TRACE_KEY",
    "PathwayRequest",
    "TraceRequest",
    "acted",
    "change_request",
    "export_for_vllm",
    "export_trace",
    "from_llama_cpp",
    "from_prime_rl",
    "from_sglang",
    "from_vllm",
    "pathway_request",
    "trace_request",
]
