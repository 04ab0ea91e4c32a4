"""Exported traces: what an engine's reader makes of them is what was recorded."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from c3po_vllm import export_trace
from c3po_vllm.engine_exports import LAYOUTS, experts_of
from c3po_vllm.engine_files import import_trace
from routing.naive import routed_model, shared_model
from routing.recorded import TEXT
from test_trace_import import REAL, model_of_vllm
from typer.testing import CliRunner

from c3po_adaptive import rule_named
from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.models.traced import record
from c3po_adaptive.routing.trace import NONE
from c3po_adaptive.routing.trace_file import read_trace, write_trace
from c3po_adaptive.testing import write_tiny_checkpoint


def same(one, other):
    return (
        torch.equal(one.tokens, other.tokens) and torch.equal(one.experts, other.experts) and one.layers == other.layers
    )


@pytest.mark.parametrize("engine", LAYOUTS)
@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3"])  # the second one's first layer is dense
def test_an_export_that_is_imported_again_is_equal(engine, family, tmp_path):
    model = shared_model(family)
    trace, path = record(model, TEXT), tmp_path / "answer.json"
    export_trace(trace, engine, path, model.model.config.num_hidden_layers)
    found = import_trace(model, engine, path)
    assert same(found, trace)
    assert found.weights is None, "engines give ids alone"
    export_trace(trace, engine, path, model.model.config.num_hidden_layers)  # over an export of its own


@pytest.mark.parametrize("engine", LAYOUTS)
def test_a_trace_that_begins_later(engine, tmp_path):
    model = shared_model("olmoe")
    whole, path = record(model, TEXT), tmp_path / "answer.json"
    trace = replace(whole, experts=whole.experts.clone().index_fill(0, torch.arange(4), NONE))
    export_trace(trace, engine, path, 3)
    assert same(import_trace(model, engine, path, start=4), trace)


def test_the_layout_is_that_of_vllms_own_answers(tmp_path):
    """Which an import makes a trace of, and an export an answer again: the same bytes."""
    model = model_of_vllm()
    answer = REAL["answers"]["/v1/completions"]
    (tmp_path / "theirs.json").write_text(json.dumps(answer))
    trace = import_trace(model, "vllm", tmp_path / "theirs.json")
    export_trace(trace, "vllm", tmp_path / "ours.json", model.model.config.num_hidden_layers)
    ours = json.loads((tmp_path / "ours.json").read_text())
    assert ours["choices"][0]["routed_experts"] == answer["choices"][0]["routed_experts"]


def test_arrays_are_as_engines_document_them(tmp_path):
    model = shared_model("deepseek_v3")
    trace = record(model, TEXT)
    shape = (len(trace.tokens) - 1, 3, 2)
    export_trace(trace, "vllm", tmp_path / "ids.npy", 3)
    array = np.load(tmp_path / "ids.npy")
    assert (array.dtype, array.shape) == (np.uint8, shape)
    assert not array[:, 0].any(), "zeros in the dense layer"
    assert same(import_trace(model, "vllm", tmp_path / "ids.npy", tokens=trace.tokens.tolist()), trace)
    export_trace(replace(trace, n_experts=300), "vllm", tmp_path / "many.npy", 3)
    assert np.load(tmp_path / "many.npy").dtype == np.int32
    export_trace(trace, "sglang", tmp_path / "answer.json", 3)
    text = json.loads((tmp_path / "answer.json").read_text())["meta_info"]["routed_experts"]
    assert np.frombuffer(base64.b64decode(text), np.int32).reshape(shape).tolist() == array.tolist()


def test_what_has_no_place_there_is_refused(tmp_path):
    model = shared_model("deepseek_v3")
    trace = record(model, TEXT)
    with pytest.raises(SettingError, match="an engine among vllm, sglang, got 'tgi'"):
        export_trace(trace, "tgi", tmp_path / "a.json", 3)
    with pytest.raises(SettingError, match="at least 3 decoder layers, as the trace has experts of layer 2, got 2"):
        experts_of(trace, 2)
    gap = trace.experts.clone()
    gap[3, 1] = NONE
    for broken in (gap, torch.full_like(gap, NONE)):
        with pytest.raises(DataError, match="got one with gaps"):
            export_trace(replace(trace, experts=broken), "vllm", tmp_path / "a.json", 3)
    (tmp_path / "theirs.json").write_text(json.dumps(REAL["answers"]["/v1/completions"]))
    (tmp_path / "theirs.npy").write_bytes(b"\x93NUMPY")
    for name in ("theirs.json", "theirs.npy"):
        with pytest.raises(DataError, match="where something else lies; nothing was touched"):
            export_trace(trace, "vllm", tmp_path / name, 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("export")
    write_tiny_checkpoint(path / "model", "olmoe")
    model = routed_model("olmoe")
    write_trace(record(model, TEXT, rule=rule_named("ban:3")), path / "trace.parquet")
    return path


class TestCommand:
    @staticmethod
    def call(*args):
        plugin = __import__("c3po_vllm.engine_files").engine_files.__file__
        return CliRunner().invoke(app, [*map(str, args), "--plugin", plugin])

    @pytest.mark.parametrize("engine", LAYOUTS)
    def test_writes_what_import_reads(self, place, engine, tmp_path):
        out = tmp_path / "answer.json"
        done = self.call("trace", "export", place / "trace.parquet", "--to", engine, "--out", out, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["decoder_layers"] == 3
        done = self.call("trace", "import", engine, out, "--model", place / "model", "--out", tmp_path / "back.parquet")
        assert done.exit_code == 0, done.output
        assert same(read_trace(tmp_path / "back.parquet"), read_trace(place / "trace.parquet"))

    def test_layers_behind_the_last_are_those_of_the_model(self, place, tmp_path):
        done = self.call(
            *("trace", "export", place / "trace.parquet", "--to", "vllm"),
            *("--out", tmp_path / "a.json", "--model", place / "model"),
        )
        assert "decoder_layers: 3" in done.stdout

    def test_an_engine_that_nothing_writes_for(self, place, tmp_path):
        done = self.call("trace", "export", place / "trace.parquet", "--to", "vlm", "--out", tmp_path / "a.json")
        assert done.exit_code == 1
        assert "Expected a trace writer, got 'vlm'; did you mean 'vllm'? There are sglang, vllm." in done.stderr
