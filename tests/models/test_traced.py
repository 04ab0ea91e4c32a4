"""Traces: recorded as the model routes, replayed to the same likelihoods, refused where they do not fit."""

import copy
import json
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from routing.naive import routed_model, shared_model
from routing.recorded import TEXT, recorded_at
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from c3po_adaptive.errors import DataError, ModelError, PluginError, SettingError, ShapeError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.models.traced import compared, likelihoods, record, replay
from c3po_adaptive.routing.styles import Change
from c3po_adaptive.routing.trace import NONE, Trace, parted
from c3po_adaptive.routing.trace_file import KEY, read_trace, write_trace
from c3po_adaptive.testing import write_tiny_checkpoint
from c3po_adaptive.types import Prompt

FAMILIES = ("olmoe", "deepseek", "qwen3_moe", "gpt_oss", "deepseek_v3")


@pytest.fixture(params=FAMILIES)
def model(request):
    return shared_model(request.param)


def test_a_trace_is_what_the_model_did(model):
    trace = record(model, TEXT)
    assert trace.experts.shape[:2] == (len(trace.tokens), len(model.layers))
    assert trace.recorded[:-1].all() and not trace.recorded[-1].any(), "nothing is predicted after the last"
    (state,) = model.prefill([Prompt(tuple(trace.tokens[:-1].tolist()))], keep=False)
    mixed = torch.zeros_like(state.own).scatter_add(-1, trace.experts[-2], trace.weights[-2])
    torch.testing.assert_close(mixed, state.own, atol=1e-5, rtol=0)


def test_replayed_it_gives_the_same_likelihoods(model):
    trace = record(model, TEXT)
    torch.testing.assert_close(replay(model, trace), likelihoods(model, trace), atol=1e-4, rtol=0)


def test_a_generation_is_recorded_and_replayed(model):
    trace = record(model, TEXT, generate=6)
    prompt = model.encode_text(TEXT).ids
    assert tuple(trace.tokens[: trace.prompt].tolist()) == prompt and len(prompt) < len(trace.tokens) <= len(prompt) + 6
    assert trace.recorded[:-1].all() and not trace.recorded[-1].any()
    with torch.no_grad():
        best = model.model(trace.tokens[None], use_cache=False).logits[0, len(prompt) - 1 : -1].argmax(-1)
    assert torch.equal(best, trace.tokens[len(prompt) :])
    torch.testing.assert_close(replay(model, trace), likelihoods(model, trace), atol=1e-4, rtol=0)


def test_a_generation_ends_where_the_model_ends_it():
    model = routed_model("olmoe")
    first = int(record(model, TEXT, generate=3).tokens[-3])
    model.model.generation_config.eos_token_id = first
    trace = record(model, TEXT, generate=3)
    assert int(trace.tokens[-1]) == first and len(trace.tokens) == len(trace.experts) == len(TEXT) + 1
    for count in (-1, 10_000, 10**15):  # of which no tensor can be had
        with pytest.raises(DataError, match="generate 1 to 464"):
            record(model, TEXT, generate=count)


def test_other_experts_give_other_likelihoods(model):
    trace = record(model, TEXT)
    other = replace(trace, experts=torch.where(trace.experts >= 0, (trace.experts + 1) % model.n_experts, NONE))
    assert (replay(model, other) - likelihoods(model, trace)).abs().max() > 1e-4


@pytest.mark.parametrize("family", [*FAMILIES, "llama4_text"])
def test_ids_alone_are_weighed_by_the_router(family):
    model = shared_model(family)
    trace = record(model, TEXT)
    alone = replay(model, replace(trace, weights=None))
    torch.testing.assert_close(alone, likelihoods(model, trace), atol=1e-4, rtol=0)


def test_ids_alone_are_refused_where_weights_are_no_function_of_scores():
    model = shared_model("phimoe")
    with pytest.raises(ModelError, match="a trace with weights"):
        replay(model, replace(record(model, TEXT), weights=None))


@pytest.mark.parametrize("count", [1, 3])
def test_ids_alone_of_fewer_or_more_experts_a_token_are_refused(count):
    model = shared_model("olmoe")
    trace = record(model, TEXT)
    experts = (torch.arange(count) + 1).expand(*trace.experts.shape[:2], -1)
    with pytest.raises(SettingError, match=f"experts a token.*got {count}"):
        replay(model, replace(trace, experts=experts, weights=None))


def test_weights_have_gradients():
    model = shared_model("olmoe")
    trace = record(model, TEXT)
    weights = trace.weights.clone().requires_grad_()
    replay(model, replace(trace, weights=weights)).sum().backward()
    assert weights.grad[:-1].abs().sum() > 0


def test_where_two_traces_part():
    trace = record(shared_model("olmoe"), TEXT)
    assert not parted(trace, trace).any()
    turned = replace(trace, experts=trace.experts.flip(-1), weights=trace.weights.flip(-1))
    assert not parted(trace, turned).any(), "the order of experts is no difference"
    experts = trace.experts.clone()
    free = next(e for e in range(trace.n_experts) if e not in experts[2, 1])
    experts[2, 1, 0] = free
    assert parted(trace, replace(trace, experts=experts)).nonzero().tolist() == [[2, 1]]
    with pytest.raises(SettingError, match="same tokens"):
        parted(trace, replace(trace, tokens=trace.tokens + 1))


def test_another_models_trace_is_refused_unless_it_is_meant():
    model = shared_model("olmoe")
    trace = record(model, TEXT)
    with pytest.raises(SettingError, match="other weights"):
        replay(model, replace(trace, model="00"))
    replay(model, replace(trace, model="00"), foreign=True)
    for changes in ({"n_experts": trace.n_experts + 1}, {"layers": tuple(layer + 1 for layer in trace.layers)}):
        with pytest.raises(SettingError, match="MoE layers"):
            replay(model, replace(trace, **changes), foreign=True)


def test_one_expert_a_token_may_be_the_first_by_chance():
    """With weights a router chose it; so it may have for a single token, or in a single layer."""
    first = torch.zeros(3, 2, 1, dtype=torch.long)
    Trace(torch.arange(3), (0, 1), first, torch.ones(3, 2, 1), n_experts=8)
    Trace(torch.arange(3), (0, 1), first, None, n_experts=1)
    Trace(torch.arange(3), (0,), first[:, :1], None, n_experts=8)
    Trace(torch.arange(3), (0, 1), torch.tensor([[[0]] * 2, *[[[NONE]] * 2] * 2]), None, n_experts=8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": None}, "layers: Input should be a valid array"),
        ({"n_experts": 10**30}, "n_experts"),
        ({"tokens": "a"}, "tokens"),
        ({"schema_version": 2}, "schema_version 1 at most, got 2"),
        ({"schema_version": None}, "schema_version"),
        ({"top_k": 3}, "3 numbers in every row"),
    ],
)
def test_a_card_of_something_else_is_refused(changes, said, tmp_path):
    table = pq.read_table(write_trace(record(shared_model("olmoe"), TEXT), tmp_path / "a.parquet"))
    card = json.loads(table.schema.metadata[KEY]) | changes
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(card)}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=rf"b\.parquet: .*{said}"):
        read_trace(tmp_path / "b.parquet")


def test_a_damaged_file_is_refused(tmp_path):
    path = write_trace(record(shared_model("olmoe"), TEXT), tmp_path / "a.parquet")
    whole, column = path.read_bytes(), pq.read_metadata(path).row_group(0).column(4)
    place = column.data_page_offset + column.total_compressed_size // 2
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    with pytest.raises(DataError, match="Expected a routing trace"):
        read_trace(path)


@pytest.mark.parametrize("weights", [True, False])
def test_a_file_holds_it(weights, tmp_path):
    trace = record(shared_model("olmoe"), TEXT)
    trace = trace if weights else replace(trace, weights=None)
    read = read_trace(write_trace(trace, tmp_path / "a.parquet"))
    assert torch.equal(read.tokens, trace.tokens) and torch.equal(read.experts, trace.experts)
    assert (read.layers, read.n_experts, read.model, read.name) == (trace.layers, 8, trace.model, trace.name)
    assert torch.equal(read.weights, trace.weights) if weights else read.weights is None


def without_the_first_weights(table):
    place, field = table.column_names.index("weights"), table.schema.field("weights")
    return table.set_column(place, field, pa.array([None, *table["weights"].to_pylist()[1:]], field.type))


@pytest.mark.parametrize(("changed", "said"), [
    (lambda table: table.sort_by([("layer", "ascending"), ("position", "ascending")]), "by position, then by layer"),
    (without_the_first_weights, "weights in every row, or in none"),
    (lambda table: table.slice(0, 5), "got 5 rows"),
])  # fmt: skip
def test_rows_of_something_else_are_refused(changed, said, tmp_path):
    table = pq.read_table(write_trace(record(shared_model("olmoe"), TEXT), tmp_path / "a.parquet"))
    pq.write_table(changed(table), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=said):
        read_trace(tmp_path / "b.parquet")


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("no")
    for name, said in (("a.parquet", r"trace at .*a\.parquet"), ("none.parquet", r"none\.parquet does not exist")):
        with pytest.raises(DataError, match=said):
            read_trace(tmp_path / name)


def test_traces_without_a_place_to_compare_are_refused():
    model = shared_model("olmoe")
    trace = record(model, TEXT)
    early, late, last = (recorded_at(trace, tokens) for tokens in (slice(0, 9), slice(9, 12), slice(0, 0)))
    for compare in (parted, partial(compared, model)):
        with pytest.raises(SettingError, match="recorded in both, got none: there is nothing to compare"):
            compare(early, late)
    with pytest.raises(SettingError, match="before its last token, got none: there is nothing to replay"):
        replay(model, last)


def test_traces_of_other_tokens_cannot_be_compared():
    model = shared_model("olmoe")
    with pytest.raises(SettingError, match="same tokens"):
        compared(model, record(model, TEXT), record(model, TEXT + "s"))


def test_a_trace_of_another_tokenizer_is_refused():
    model = shared_model("olmoe")
    trace = record(model, TEXT)
    tokens = trace.tokens.clone()
    tokens[3] = 128
    for run in (partial(replay, foreign=True), replay, likelihoods):
        with pytest.raises(DataError, match=r"token ids from 0 to 127.*another tokenizer"):
            run(model, replace(trace, tokens=tokens))
    parts = {"tokens": trace.tokens[:1].expand(600), "experts": trace.experts[:1].expand(600, -1, -1)}
    with pytest.raises(DataError, match="at most 512 tokens"):
        replay(model, replace(trace, **parts, weights=None), foreign=True)


def test_ids_that_are_another_text_elsewhere_are_refused_even_where_foreign_is_said(tmp_path):
    """By a vocabulary of the same size; one with tokens added, as chat models have them, is no other."""
    model, other = shared_model("olmoe"), routed_model("olmoe")
    trace = read_trace(write_trace(record(model, TEXT), tmp_path / "a.parquet"))
    other.tokenizer = copy.deepcopy(model.tokenizer)
    other.tokenizer.add_tokens(["<more>"])
    assert len(other.tokenizer) > len(model.tokenizer)
    replay(other, trace, foreign=True)
    names = ["<more>", "<less>"]
    for added, tokenizer in zip(names, (other.tokenizer, copy.deepcopy(model.tokenizer)), strict=True):
        tokenizer.add_tokens([added])
        other.tokenizer = tokenizer
        last = torch.tensor([len(tokenizer) - 1])
        longer = replace(
            trace, tokens=torch.cat([last, trace.tokens[1:]]), pieces={**trace.pieces, int(last): "<more>"}
        )
        if added == "<more>":
            likelihoods(other, longer)
        else:
            with pytest.raises(DataError, match="tokenizer, got one of another"):
                likelihoods(other, longer)
    vocabulary = json.loads(other.tokenizer.backend_tokenizer.to_str())
    pieces = vocabulary["model"]["vocab"]
    pieces["b"], pieces["s"] = pieces["s"], pieces["b"]
    other.tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(vocabulary)))
    for run in (partial(replay, foreign=True), likelihoods):
        with pytest.raises(DataError, match="tokenizer, got one of another"):
            run(other, replace(trace, model=""))
    replay(other, replace(trace, tokenizer=""), foreign=True)
    with pytest.raises(SettingError, match="same tokens"):
        parted(trace, replace(trace, tokenizer="another"))
    assert not parted(trace, replace(trace, tokenizer="")).any()


def test_a_trace_says_the_revision_and_no_path(tmp_path):
    model = load_moe_model(write_tiny_checkpoint(tmp_path / "model", "olmoe"))
    trace = record(model, TEXT)
    assert (trace.name, trace.revision) == ("model", "")
    model.model.config._commit_hash = "abc"
    trace = record(model, TEXT)
    assert read_trace(write_trace(trace, tmp_path / "a.parquet")).revision == trace.revision == "abc"
    assert str(tmp_path) not in str(pq.read_metadata(tmp_path / "a.parquet").metadata)


def test_one_token_is_no_text():
    with pytest.raises(DataError, match="two tokens"):
        record(shared_model("olmoe"), "b")


def reversed_weights(routing):
    """The router's experts, with their weights the other way round."""
    return Change(None, routing.index, routing.weights.flip(-1))


def every_expert_in_one_layer(routing):
    if routing.position != 1:
        return None
    return routing.change(torch.arange(routing.site.n_experts).expand(len(routing.index), -1))


def rows_of_even_places(routing):
    rows = (routing.real & (routing.token % 2 == 0)).nonzero().squeeze(1)
    return Change(rows, routing.index[rows].flip(-1), routing.weights[rows])


class TestRecordedAlongARule:
    @pytest.mark.parametrize("rule", [reversed_weights, every_expert_in_one_layer, rows_of_even_places])
    @pytest.mark.parametrize("family", ["olmoe", "qwen2_moe"])
    def test_replayed_it_is_what_the_rule_did(self, family, rule):
        model = shared_model(family)
        found = record(model, TEXT, rule=rule)
        prompt = model.encode_text(TEXT)
        parts = replace(prompt, ids=prompt.ids[:1], options=(prompt.ids[1:],), lengths=(1.0,))
        (ruled,) = model.ruled([parts], rule)
        torch.testing.assert_close(replay(model, found), ruled.token_scores, atol=1e-5, rtol=0)
        own = record(model, TEXT)
        assert (replay(model, found) - replay(model, own)).abs().max() > 1e-4, "it moved something"

    def test_a_rule_that_changes_nothing(self, trace):
        same = record(shared_model("olmoe"), TEXT, rule=lambda routing: None)
        assert torch.equal(same.weights, trace.weights)
        assert torch.equal(same.experts, trace.experts)
        assert torch.equal(same.recorded, trace.recorded)
        assert (same.experts[-1] == NONE).all()


class TestPiecesOfText:
    def test_a_trace_prints_as_a_line(self, trace):
        T, L, k = trace.experts.shape
        shown = f"{T - 1} of {T} tokens recorded, {L} layers, {k} of {trace.n_experts} experts a token"
        assert repr(trace) == f"Trace({trace.name!r}: {shown}, experts and weights)"

    def test_are_the_texts_tokens_and_are_kept(self, trace, tmp_path):
        assert "".join(trace.pieces[token] for token in trace.tokens.tolist()) == TEXT
        assert trace.prompt == len(trace.tokens)
        again = read_trace(write_trace(trace, tmp_path / "a.parquet"))
        assert (again.pieces, again.prompt) == (trace.pieces, trace.prompt)

    def test_older_files_have_none(self, trace, tmp_path):
        table = pq.read_table(write_trace(trace, tmp_path / "a.parquet"))
        card = json.loads(table.schema.metadata[KEY])
        del card["pieces"], card["prompt"]
        pq.write_table(table.replace_schema_metadata({KEY: json.dumps(card)}), tmp_path / "old.parquet")
        old = read_trace(tmp_path / "old.parquet")
        assert (old.pieces, old.prompt) == ({}, 0)
        bad = table.replace_schema_metadata({KEY: json.dumps(card | {"pieces": ["a"]})})
        pq.write_table(bad, tmp_path / "bad.parquet")
        with pytest.raises(DataError, match="pieces"):
            read_trace(tmp_path / "bad.parquet")

    def test_no_prompt_is_below_zero(self, trace):
        with pytest.raises(ShapeError, match="a prompt of 0 tokens or more"):
            replace(trace, prompt=-1)


def test_a_picture_that_nothing_draws_says_what_does(trace, monkeypatch):
    monkeypatch.setattr("c3po_adaptive.elsewhere.entry_points", lambda **_: ())
    with pytest.raises(PluginError, match="plugins/traces"):
        trace.plot()
