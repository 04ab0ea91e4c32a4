"""Pathways served by a stock vLLM: what a request carries, how it is admitted, and the plugin that carries it out."""

from .export import export_for_vllm
from .forced import TRACE_KEY, TraceRequest, trace_request
from .request import KEY, PathwayRequest, acted, change_request, pathway_request

__all__ = [
    "KEY",
    "TRACE_KEY",
    "PathwayRequest",
    "TraceRequest",
    "acted",
    "change_request",
    "export_for_vllm",
    "pathway_request",
    "trace_request",
]
