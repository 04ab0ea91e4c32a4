"""Pathways served by a stock vLLM: what a request carries, how it is admitted, and the plugin that carries it out."""

from .export import export_for_vllm
from .request import KEY, PathwayRequest, acted, change_request, pathway_request

__all__ = ["KEY", "PathwayRequest", "acted", "change_request", "export_for_vllm", "pathway_request"]
