"""Files that engines are said to have written: what comes in can be replayed."""

import base64
import io
import json
import struct
import tempfile
import zipfile
from functools import cache

import numpy as np
import pytest
import torch
from c3po_vllm.engine_files import import_trace
from c3po_vllm.engine_traces import from_vllm
from hostile.doors import is_refused, passed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from routing.naive import shared_model

from c3po_adaptive.errors import DataError

set_hypothesis_home_dir(tempfile.gettempdir())


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 300, "folder", "dangling", "loop"])
@pytest.mark.parametrize("engine", ["transformers", "vllm", "sglang", "prime-rl", "llama.cpp"])
def test_places_where_none_is(tmp_path, name, engine):
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    is_refused(lambda: imported(tmp_path / name, engine))


def claiming(shape, kind="<i8"):
    """A ``.npy`` of a header alone."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def imported(path, engine="transformers", **given):
    return import_trace(shared_model("olmoe"), engine, path, **given)


@pytest.mark.parametrize("shape", [(2**40,), (2**40, 1, 2), (2**33,), (2**62, 2**62), (-1,), (2**40, 0)])
def test_arrays_that_claim_more_than_they_hold(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(claiming(shape))
    is_refused(lambda: imported(tmp_path / "a.npy", "vllm", tokens=[1, 2, 3]))
    answer = {"prompt_token_ids": [1, 2], "token_ids": [3]}
    answer["routed_experts"] = base64.b64encode(claiming(shape)).decode()
    (tmp_path / "a.json").write_text(json.dumps({"choices": [answer]}))
    is_refused(lambda: imported(tmp_path / "a.json", "vllm"))
    for kind in ("<f4", "<i8", "|b1", "|V0", "|O"):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("router_logits.npy", claiming(shape, kind))
            archive.writestr("input_ids.npy", claiming((3,)) + bytes(24))
        is_refused(lambda: imported(tmp_path / "a.npz"))


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_claim_more_than_their_bytes_become(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", kind) as archive:
        archive.writestr("router_logits.npy", claiming((3, 2**20, 8), "<f4") + bytes(2**22))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    at = content.index(b"PK\1\2") + 24
    content[at : at + 4] = struct.pack("<I", 2**32 - 2)
    (tmp_path / "a.npz").write_bytes(bytes(content))
    with pytest.raises(DataError, match="archive that claims"):
        imported(tmp_path / "a.npz", tokens=[1, 2, 3])


def test_safetensors_that_claim_more_than_they_hold(tmp_path):
    for shape, end in (([2**40], 8), ([2**40], 2**43), ([2**40, 0], 0), ([2**63, 2**63], 0)):
        header = {"router_logits": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}
        head = json.dumps(header).encode()
        (tmp_path / "a.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))
        is_refused(lambda: imported(tmp_path / "a.safetensors", tokens=[1, 2, 3]))


LOGITS = torch.zeros(3, 3, 8)
ENDLESS = torch.zeros(1).expand(2**40)


@pytest.mark.parametrize(
    "held",
    [
        {"router_logits": ENDLESS},
        {"router_logits": (ENDLESS,)},
        {"router_logits": LOGITS, "input_ids": torch.zeros(1).long().expand(2**40)},
        {"router_logits": torch.zeros(2**40, 0)},
        {"router_logits": LOGITS.to_sparse()},
        {"router_logits": tuple(part.to_sparse() for part in LOGITS)},
        {"router_logits": torch.empty(3, 3, 8, device="meta")},
        {"router_logits": torch.empty(3, 3, 8, device="meta"), "input_ids": torch.empty(3, device="meta")},
        {"router_logits": LOGITS.to(torch.complex64)},
        {"router_logits": LOGITS.long()},
        {"router_logits": LOGITS, "input_ids": torch.ones(3, dtype=torch.bool)},
        {"router_logits": LOGITS, "input_ids": torch.full((3,), 2**64 - 1, dtype=torch.uint64)},
        {"router_logits": [LOGITS[0]] * 1000},
        {"router_logits": [torch.zeros(i, 8) for i in range(3000)]},
        {"router_logits": LOGITS.tolist()},
        {1: 2},
        [1, 2],
        5,
    ],
    ids=range(18),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")  # torch's own of kinds of tensors that it will not have for long
def test_tensors_that_are_no_logits(tmp_path, held):
    torch.save(held, tmp_path / "a.pt")
    tokens = None if isinstance(held, dict) and "input_ids" in held else [1, 2, 3]
    is_refused(lambda: imported(tmp_path / "a.pt", tokens=tokens))


@pytest.mark.parametrize("kind", ["uint64", "bool", "float64", "int64", "complex64", "U1"])
def test_ids_of_other_types_are_not_taken_for_what_was_not_recorded(tmp_path, kind):
    """2^64 - 1 as a signed number is -1."""
    wrong = {"uint64": 2**64 - 1, "int64": 2**40}.get(kind, 1)
    np.save(tmp_path / "a.npy", np.full((2, 3, 2), wrong, kind))
    is_refused(lambda: imported(tmp_path / "a.npy", "vllm", tokens=[1, 2, 3]))


@pytest.mark.parametrize("kind", [torch.uint64, torch.bool, torch.float32, torch.bfloat16])
def test_ids_of_other_types_given_from_python(kind):
    ids = torch.ones(2, 3, 2).to(kind)
    is_refused(lambda: from_vllm(shared_model("olmoe"), torch.tensor([1, 2, 3]), ids))
    is_refused(lambda: from_vllm(shared_model("olmoe"), torch.ones(3).to(kind), torch.tensor([[[1, 2]] * 3] * 2)))


routed = st.recursive(
    st.integers(-2, 9) | st.booleans() | st.none() | st.floats() | st.sampled_from([2**63, 2**64 - 1, 10**400, "a"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(routed, st.sampled_from(["vllm", "sglang"]))
def test_answers_of_whatever_they_say(tmp_path, experts, engine):
    answer = {"prompt_token_ids": [1, 2], "token_ids": [3], "output_ids": [3], "routed_experts": experts}
    (tmp_path / "a.json").write_text(json.dumps({"choices": [answer]}))
    passed(lambda: imported(tmp_path / "a.json", engine))


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from([".npz", ".npy", ".safetensors", ".pt"]))
@pytest.mark.filterwarnings("ignore:Reading `.npy`")  # numpy's of headers that Python 2 wrote
def test_bytes_of_engines_files_that_were_changed(tmp_path, data, suffix):
    content = bytearray(whole_file(suffix))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(content) - 1, 600)) | st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    (tmp_path / f"a{suffix}").write_bytes(bytes(content))
    passed(lambda: imported(tmp_path / f"a{suffix}", "vllm" if suffix == ".npy" else "transformers", tokens=[1, 2, 3]))


@cache
def whole_file(suffix):
    from safetensors.torch import save

    made = io.BytesIO()
    if suffix == ".safetensors":
        return save({"router_logits": LOGITS})
    if suffix == ".npz":
        np.savez_compressed(made, router_logits=LOGITS.numpy())
    elif suffix == ".npy":
        np.save(made, np.array([[[1, 2]] * 3] * 2))
    else:
        torch.save({"router_logits": LOGITS}, made)
    return made.getvalue()
