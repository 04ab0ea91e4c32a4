"""A disk that is full is one sentence and leaves nothing: whole checkpoints, under a limit on what a file may hold."""

import resource
from contextlib import contextmanager

import pytest
from c3po_faults.fault_files import write_faulty
from c3po_faults.faults import Fault
from c3po_vllm.export import export_for_vllm

from c3po_adaptive.errors import DataError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.testing import write_tiny_checkpoint

WRITES = {
    "checkpoint for vLLM": export_for_vllm,
    "model with a fault": lambda model, out: write_faulty(model, Fault("exchange", model.layers, ((0, 1),)), out),
}


@contextmanager
def at_most(size):
    """No file gets longer, as on a disk that is full; safetensors then raises an error of its own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("size", [0, 1_000, 20_000])
def test_checkpoints(tmp_path, write, size):
    model = load_moe_model(write_tiny_checkpoint(tmp_path / "model", "olmoe"))
    before = {*tmp_path.iterdir()}
    with (
        at_most(size),
        pytest.raises(DataError, match=r"Expected to write a new folder.*File too large.*free the disk"),
    ):
        WRITES[write](model, tmp_path / "out")
    assert {*tmp_path.iterdir()} == before, "nothing is left"
