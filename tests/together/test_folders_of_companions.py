"""Whatever companions write, and wherever they are told to: each file that is not their own is there afterwards."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import c3po_hub
import pytest
import torch
from c3po_compare import two_runs
from c3po_faults import fault_files
from c3po_harness.export import _Log
from c3po_ray.worker_payload import WorkerPayload
from c3po_template import new_plugin
from c3po_vllm import export as vllm
from hostile import test_folders as folders
from hostile.test_folders import MODEL, PATHWAY, SET, leaves_what_is_not_its_own

from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.registry import new_registry
from c3po_adaptive.types import Pathway

REGISTRY = new_registry(installed=False)


def put_toys(monkeypatch):
    """What is written is of no interest here; each writer writes what its own check knows it by."""
    monkeypatch.setattr(vllm, "with_zeros", lambda model, multiple_of: MODEL.model)
    monkeypatch.setattr(fault_files, "planted", lambda model, fault: model)
    monkeypatch.setattr(fault_files, "known_fault", lambda model: SimpleNamespace(sound={"w": torch.ones(2)}))
    monkeypatch.setattr(fault_files, "_truth", lambda model, folder: {"fault": {}})
    nothing = two_runs.TwoRuns(a="A", b="B", only_a=(), only_b=(), rows=())
    monkeypatch.setattr(two_runs, "side_by_side", lambda a, b, again: nothing)
    monkeypatch.setattr(two_runs, "records_in", lambda folder: [])
    monkeypatch.setattr(two_runs, "claimed_config", lambda folder: {})
    monkeypatch.setattr(two_runs, "made_by", lambda folder: None)
    monkeypatch.setattr(two_runs, "_page", lambda found, made: "a page")
    monkeypatch.setattr(c3po_hub, "card", lambda what, name, license: f"---\ntags:\n- c3po_adaptive\n---\n{name}")


def exported(out):
    log = _Log.of(Path(out), "toy__arm", ["d"], datetime(2030, 1, 1))
    log.write({"results": {}, "config": {"model": "c3po"}}, {"d": [{"doc": 1}]})


@dataclass
class Sent:
    """As much of a worker as a parcel unpacks."""

    plugins: tuple = ("mine.py",)
    places: tuple = ()


def unpacked(out):
    """A worker's cache."""
    files = {"mine.py": {"mine.py": b"plugin"}, "set": dict.fromkeys(ReferenceSet.files, b"of a set")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", out)
        WorkerPayload(Sent(), {}, files).unpack()


WRITERS = {
    "set with its card": (SET.save_pretrained, (*ReferenceSet.files, "README.md")),
    "pathway in a folder": (PATHWAY.save_pretrained, (*Pathway.files, "README.md")),
    "report of two": (
        lambda out: two_runs.compare_runs(Path("A"), Path("B"), Path(out)),
        ("summary.json", "report.html"),
    ),
    "export": (exported, ()),
    "parcel": (unpacked, ()),
    "plugin": (lambda out: new_plugin("my-plugin", "kernel", Path(out), REGISTRY), ()),
    "checkpoint": (lambda out: vllm.export_for_vllm(MODEL, out), ()),
    "fault": (lambda out: fault_files.write_faulty(MODEL, None, out), ()),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_not_ours_stays(writer, monkeypatch):
    folders.put_toys(monkeypatch)
    put_toys(monkeypatch)
    monkeypatch.setattr(folders, "WRITERS", WRITERS)
    monkeypatch.setattr(folders, "NEW", ("plugin", "checkpoint", "fault"))
    leaves_what_is_not_its_own(writer, monkeypatch)
