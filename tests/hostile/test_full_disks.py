"""A disk that is full is one sentence and leaves nothing: whole checkpoints, in processes of their own."""

import os
import resource
import subprocess
import sys

import pytest

from c3po_adaptive.testing import write_tiny_checkpoint

LIMIT = 20_000  # bytes of a file

WRITES = {
    "checkpoint for vLLM": "from c3po_adaptive.serving.export import export_for_vllm as w; w(model, 'out')",
    "model with a fault": (
        "from c3po_adaptive.models.fault_files import write_faulty as w\n"
        "from c3po_adaptive.models.faults import Fault\n"
        "w(model, Fault('exchange', model.layers, ((0, 1),)), 'out')"
    ),
}


@pytest.mark.parametrize("write", WRITES)
def test_checkpoints(tmp_path, write):
    write_tiny_checkpoint(tmp_path / "model", "olmoe")
    assert (tmp_path / "model" / "model.safetensors").stat().st_size > LIMIT
    before = {*tmp_path.iterdir()}
    code = f"""
from c3po_adaptive.errors import C3POError
from c3po_adaptive.models.loading import load_moe_model
model = load_moe_model("model")
try:
    {WRITES[write].replace(chr(10), chr(10) + "    ")}
except C3POError as error:
    print("refused:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "refused: Expected to write a new folder" in done.stdout
    assert "File too large" in done.stdout
    assert "free the disk" in done.stdout
    assert {*tmp_path.iterdir()} == before, "nothing is left"
