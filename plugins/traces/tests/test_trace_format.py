"""The format of a trace's file: the JSON schema that is shipped, the files that are written and the reader agree."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import c3po_traces
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from c3po_traces.logits import logits_of, write_with_logits
from jsonschema import Draft202012Validator
from routing.naive import routed_model, shared_model
from routing.recorded import TEXT, own_trace
from transformers.utils.quantization_config import QuantizationMethod
from typer.testing import CliRunner

from c3po_adaptive import read_routing, rule_named
from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, ShapeError
from c3po_adaptive.models.traced import Trace, of_experts, read_trace, record, write_trace
from c3po_adaptive.testing import write_tiny_checkpoint

KEY = b"c3po_trace"
SCHEMA = json.loads((Path(c3po_traces.__file__).parent / "trace.schema.json").read_text())
CARD = Draft202012Validator(SCHEMA)
ROW = Draft202012Validator(SCHEMA["$defs"]["row"])


@cache
def made(name):
    model, own = shared_model("olmoe"), own_trace()
    return {
        "own": lambda: own,
        "generated": lambda: record(model, TEXT, generate=3),
        "along a rule": lambda: record(model, TEXT, rule=rule_named("top-k:1")),
        "of an engine": lambda: of_experts(model, own.tokens, own.experts, by="vLLM"),
        "of nobody": lambda: Trace(torch.arange(3), (0, 4), torch.tensor([[[1, 2]] * 2] * 3), None, n_experts=8),
        "of no token": lambda: Trace(torch.arange(0), (0,), torch.zeros(0, 1, 2).long(), None, n_experts=8),
    }[name]()


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(DataError, match=r"a\.parquet, not written: expected the card of a routing trace"):
        write_trace(replace(own_trace(), name="half \ud800 of one"), tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def a_file(folder, card=None, rows=None, name="own"):
    """A file with other things in its card, or in its first row."""
    table = pq.read_table(write_trace(made(name), folder / "a.parquet"))
    held = json.loads(table.schema.metadata[KEY]) | (card or {})
    if rows:
        first, *others = table.to_pylist()
        table = pa.Table.from_pylist([first | rows, *others], table.schema)
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(held)}), folder / "b.parquet")
    return folder / "b.parquet", held


def test_the_schema_is_one_and_says_of_each_field_what_it_is():
    Draft202012Validator.check_schema(SCHEMA)
    for part in (SCHEMA, SCHEMA["$defs"]["row"]):
        assert all("description" in field for field in part["properties"].values())


@pytest.mark.parametrize("name", ["own", "generated", "along a rule", "of an engine", "of nobody", "of no token"])
def test_what_is_written_is_valid_and_read_again_the_same(name, tmp_path):
    trace = made(name)
    table = pq.read_table(write_trace(trace, tmp_path / "a.parquet"))
    card = json.loads(table.schema.metadata[KEY])
    CARD.validate(card)
    assert card.keys() == SCHEMA["properties"].keys(), "and all that there is to say is said"
    for row in table.to_pylist():
        ROW.validate(row)
    read = read_trace(tmp_path / "a.parquet")
    for field in (
        "layers",
        "n_experts",
        "model",
        "name",
        "revision",
        "tokenizer",
        "pieces",
        "prompt",
        "engine",
        "dtype",
    ):
        assert getattr(read, field) == getattr(trace, field), field


def test_columns_are_of_the_types_that_the_schema_says(tmp_path):
    written = pq.read_table(write_with_logits(own_trace(), tmp_path / "a.parquet", torch.zeros(48, 3, 8))).schema
    said = {name: field["arrow"] for name, field in SCHEMA["$defs"]["row"]["properties"].items()}
    found = {field.name: str(field.type).replace("element: ", "").replace("float", "float32") for field in written}
    assert found == said


def test_it_says_who_ran_what():
    assert (made("own").engine, made("own").dtype) == ("c3po_adaptive", "float32")
    model = routed_model("olmoe")
    model.model.bfloat16().quantization_method = QuantizationMethod.BITS_AND_BYTES  # as transformers says it
    assert record(model, TEXT).dtype == "bfloat16, bitsandbytes"
    assert (made("of an engine").engine, made("of an engine").dtype) == ("vLLM", "")


@pytest.mark.parametrize(
    "card",
    [
        {"name": "another"},
        {"more": [1]},
        {"n_experts": 9},
        {"engine": "tgi", "dtype": "int4"},
        {"pieces": {}},
        {"pieces": {"2147483647": ""}},
        {"prompt": 10**6},
    ],
    ids=str,
)
def test_cards_that_are_valid_are_taken(card, tmp_path):
    file, held = a_file(tmp_path, card)
    CARD.validate(held)
    assert read_trace(file).n_experts == held["n_experts"]


def test_a_card_without_what_came_later_is_taken_as_one_that_does_not_know(tmp_path):
    table = pq.read_table(write_trace(made("own"), tmp_path / "a.parquet"))
    least = {name: json.loads(table.schema.metadata[KEY])[name] for name in SCHEMA["required"]}
    CARD.validate(least)
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(least)}), tmp_path / "b.parquet")
    read = read_trace(tmp_path / "b.parquet")
    assert (read.engine, read.dtype, read.pieces, read.prompt) == ("", "", {}, 0)


@pytest.mark.parametrize(
    "card",
    [
        *({name: None} for name in SCHEMA["properties"]),
        *({name: "8"} for name in ("schema_version", "tokens", "top_k", "n_experts", "prompt")),
        *({name: True} for name in ("schema_version", "tokens", "top_k", "n_experts", "prompt")),
        *({name: -1} for name in ("schema_version", "tokens", "top_k", "n_experts", "prompt")),
        *({name: 0} for name in ("schema_version", "top_k", "n_experts")),
        *({name: 8.5} for name in ("schema_version", "tokens", "top_k", "n_experts", "prompt")),
        *({name: 2**40} for name in ("schema_version", "tokens", "top_k", "n_experts")),
        *({"layers": layers} for layers in ([], [-1, 0, 1], ["0", 1, 2], [0, 1, 2**15], {"0": 1}, 3)),
        *({"pieces": pieces} for pieces in ({"a": "b"}, {"-1": "b"}, {"01": "b"}, {"1": 2}, ["a"])),
        *({name: 5} for name in ("model", "name", "revision", "tokenizer", "engine", "dtype")),
    ],
    ids=str,
)
def test_cards_that_are_not_valid_are_refused(card, tmp_path):
    file, held = a_file(tmp_path, card)
    assert not CARD.is_valid(held)
    with pytest.raises(DataError, match=r"b\.parquet: expected the card of a routing trace"):
        read_trace(file)


def test_a_layer_twice_is_refused_by_both(tmp_path):
    file, held = a_file(tmp_path, {"layers": [0, 1, 1]})
    assert not CARD.is_valid(held)
    with pytest.raises(DataError, match=r"b\.parquet: "):
        read_trace(file)


@pytest.mark.parametrize("missing", SCHEMA["required"])
def test_cards_without_what_is_required_are_refused(missing, tmp_path):
    table = pq.read_table(write_trace(made("own"), tmp_path / "a.parquet"))
    card = json.loads(table.schema.metadata[KEY])
    del card[missing]
    assert not CARD.is_valid(card)
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(card)}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=f"card of a routing trace.*{missing}: Field required"):
        read_trace(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    "rows",
    [
        {"position": -1},
        {"token": -1},
        {"layer": -1},
        {"experts": [-2, 1]},
        {"experts": []},
        {"experts": None},
        {"weights": [-0.5, 0.5]},
        {"weights": [40000.0, 0.5]},
        {"weights": []},
    ],
    ids=str,
)
def test_rows_that_are_not_valid_are_refused(rows, tmp_path):
    file, _ = a_file(tmp_path, rows=rows)
    assert not ROW.is_valid(pq.read_table(file).slice(0, 1).to_pylist()[0])
    with pytest.raises(DataError, match=r"b\.parquet: "):
        read_trace(file)


def test_parquet_of_something_else_is_no_trace(tmp_path):
    table = pq.read_table(write_trace(made("own"), tmp_path / "a.parquet"))
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"routing trace at .*b\.parquet, got a table without its card"):
        read_trace(tmp_path / "b.parquet")


class TestLogits:
    def read(self):
        return read_routing(shared_model("olmoe"), {"input_ids": own_trace().tokens[None]}).logits[0].detach()

    def test_stand_beside_the_experts(self, trace, tmp_path):
        logits, path = self.read(), tmp_path / "a.parquet"
        write_with_logits(trace, path, logits)
        for row in pq.read_table(path).to_pylist():
            ROW.validate(row)
        assert torch.equal(logits_of(path), logits)
        assert torch.equal(read_trace(path).experts, trace.experts), "who does not know them passes over them"
        write_trace(trace, path)
        assert logits_of(path) is None

    @pytest.mark.parametrize("logits", [torch.zeros(48, 3, 7), torch.zeros(47, 3, 8), torch.zeros(3, 8)])
    def test_of_others_tokens_or_experts_are_not_written(self, trace, logits, tmp_path):
        with pytest.raises(ShapeError, match=r"logits of shape \(48, 3, 8\)"):
            write_with_logits(trace, tmp_path / "a.parquet", logits)
        assert not (tmp_path / "a.parquet").exists()

    @pytest.mark.parametrize(
        "column",
        [
            pa.array([[0.0] * 7] * 144, pa.list_(pa.float32())),
            pa.array([[0.0] * 8] * 144, pa.list_(pa.float64())),
            pa.array([None] + [[0.0] * 8] * 143, pa.list_(pa.float32())),
            pa.array([[None] * 8] + [[0.0] * 8] * 143, pa.list_(pa.float32())),
            pa.array([0.0] * 144, pa.float32()),
        ],
        ids=range(5),
    )
    def test_of_another_shape_are_refused(self, trace, column, tmp_path):
        table = pq.read_table(write_trace(trace, tmp_path / "a.parquet"))
        pq.write_table(table.append_column("logits", column), tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"a\.parquet: expected logits \[48, 3, 8\]"):
            logits_of(tmp_path / "a.parquet")

    def test_are_kept_by_the_command(self, tmp_path):
        model, out = str(write_tiny_checkpoint(tmp_path / "model", "olmoe")), str(tmp_path / "a.parquet")
        command = ["trace", "record", TEXT, "--out", out, "--model", model, "--generate", "2", "--logits"]
        assert CliRunner().invoke(app, command).exit_code == 0
        logits, trace = logits_of(out), read_trace(out)
        best = logits[trace.recorded].topk(2).indices.sort(-1).values
        assert torch.equal(best, trace.experts[trace.recorded].sort(-1).values)
        refused = CliRunner().invoke(app, [*command, "--rule", "ban:3"])
        assert refused.exit_code == 1 and "got a --rule, too" in refused.stderr
        shown = json.loads(CliRunner().invoke(app, ["trace", "show", out, "--json"]).stdout)
        assert (shown["engine"], shown["dtype"]) == ("c3po_adaptive", "float32")
