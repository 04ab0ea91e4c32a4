"""What a ban of one expert costs: held against whole passes along the same rule."""

import json

import pytest
import torch
from c3po_experts import rank_experts
from c3po_experts.ban_cost import ban_costs
from typer.testing import CliRunner

from c3po_adaptive import DataError, NotFinite, RoutedModel, SettingError, over_values, read_routing, rule_named
from c3po_adaptive.cli import app
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint

TEXTS = ["the boat floats on the water", "who sells bread", "a stone sinks", "snow lies in the hills"]


def model_of(family):
    return RoutedModel(tiny_moe(family), tiny_tokenizer(), name=family)


def loss_of(model, text, rule=None):
    ids = torch.tensor(model.encode_text(text).ids)
    said = model.forward(text, routing=rule).logits[0].double().log_softmax(-1)
    return -said[:-1].gather(1, ids[1:, None]).mean().item()


@pytest.mark.parametrize("family", ["mixtral", "olmoe", "deepseek_v3", "jamba"])
def test_it_is_what_the_loss_rises_by_along_the_rule(family):
    model = model_of(family)
    places = [(model.layers[0], 0), (model.layers[0], 3), (model.layers[-1], 5)]
    found = ban_costs(model, TEXTS[:3], places, seed=1)
    assert list(found) == places
    for (layer, expert), cost in found.items():
        rule = rule_named(f"ban:{expert}@{layer}")
        rises = torch.tensor([loss_of(model, text, rule) - loss_of(model, text) for text in TEXTS[:3]])
        assert cost.value == pytest.approx(float(rises.mean()), abs=1e-5)
        wanted = over_values(rises.double().numpy()[:, None], seed=1)
        assert (cost.low, cost.high) == pytest.approx((wanted.low, wanted.high), abs=1e-4)


def test_what_a_ban_cannot_change_is_not_run_again(monkeypatch):
    model = model_of("mixtral")  # which renormalizes: others weigh the same without an expert that no token uses
    run, starts = model.ruled_from, []
    monkeypatch.setattr(model, "ruled_from", lambda *given: starts.append(given[2]) or run(*given))
    routed = read_routing(model, "who").experts[0]
    silent, heard = min({*range(8)} - {*routed[:, 0].flatten().tolist()}), int(routed[0, 2, 0])
    found = ban_costs(model, ["who", "who"], [(0, silent), (2, heard)])
    assert starts == [2, 2], "one expert of two, from its own layer on, for each text"
    assert found[0, silent] == (0, 0, 0) != found[2, heard]


def test_the_least_and_most_ranked_and_those_that_are_named_are_banned():
    found = rank_experts(model_of("qwen3_moe"), TEXTS, ban=["least:1", "most:1", "3,5@1"])
    tried = {(one.layer, one.expert) for one in found.experts if one.ban_cost is not None}
    ends = {(one.layer, one.expert) for one in found.experts if one.rank in (1, 8)}
    assert tried == ends | {(1, 3), (1, 5)}
    assert all(one.ban_low <= one.ban_cost <= one.ban_high for one in found.experts if one.ban_cost is not None)
    by_cost = sorted((one for one in found.experts if one.ban_cost is not None), key=lambda one: -one.ban_cost)
    costly = {(layer, one) for layer, some in found.chosen("costly:2").items() for one in some}
    assert costly == {(one.layer, one.expert) for one in by_cost[:2]}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("hardest:2", "Expected experts as least:2 or most:2 of each layer"),
        ("least:0", "Expected experts as least:2"),
        ("most:9", "Expected at most 8 for 'most:9'"),
        ("3,8@1", "Expected experts 0 to 7 of the MoE layers 0, 1, 2 for '3,8@1', got expert 8 of layer 1"),
        ("3@7", "got expert 3 of layer 7"),
        ("costly:2", "Expected at most 0 for 'costly:2', the experts whose ban was tried"),
    ],
)
def test_others_are_refused_before_texts_are_read(named, said, monkeypatch):
    monkeypatch.setattr("c3po_experts.ranking.outputs_of", lambda *given: pytest.fail("read"))
    with pytest.raises(SettingError, match=said):
        rank_experts(model_of("qwen3_moe"), TEXTS, ban=named)


def test_infinite_logits_tell_no_cost():
    model = model_of("olmoe")
    with torch.no_grad():
        model.model.get_output_embeddings().weight[7] = torch.inf
    with pytest.raises(NotFinite, match="Expected finite logits, got NaN or infinity"):
        rank_experts(model, TEXTS[:3], ban="most:1")


def test_a_text_of_one_token_has_no_loss():
    with pytest.raises(DataError, match="two tokens at least, got 'a' of 1"):
        ban_costs(model_of("olmoe"), ["a", "ab"], [(0, 0)])


def test_the_command_puts_costs_beside_the_ranking(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "model", "olmoe")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    command = ["experts", str(tmp_path / "texts.txt"), "--model", str(folder), "--ban", "most:1", "--ban", "2@0"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "ranking.jsonl")])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "ranking.jsonl").read_text().splitlines()]
    tried = {(row["layer"], row["expert"]) for row in rows if row["ban_cost"] is not None}
    assert tried == {(row["layer"], row["expert"]) for row in rows if row["rank"] == 8} | {(0, 2)}
    assert "nats a token [95 %]" in done.output
