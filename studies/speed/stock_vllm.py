"""A stock vLLM on one thread of the CPU, for the scripts beside this one; imported before vLLM, which reads the
environment when it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.identity import routing_versions

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


def write_results(out: Path, rows: list[dict[str, Any]], told: dict[str, Any]) -> None:
    """What was measured, with how (``told``) and by which versions."""
    import torch
    from vllm import __version__ as vllm_version

    versions = routing_versions() | {"vllm": vllm_version}
    how = {"dtype": "float32", "threads": torch.get_num_threads(), "versions": versions}
    write_text(out, json.dumps(told | how | {"rows": rows}, indent=1) + "\n")
    print(json.dumps(rows, indent=1))
