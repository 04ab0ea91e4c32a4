"""Experts ranked by what they add: held against sums by hand."""

import json
from dataclasses import replace

import pytest
import torch
from c3po_audit import routing_statistics
from c3po_experts import rank_experts
from c3po_experts.outputs import outputs_of
from typer.testing import CliRunner

from c3po_adaptive import DataError, ModelError, NotFinite, RoutedModel, SettingError, read_routing
from c3po_adaptive.cli import app
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint

TEXTS = ["the boat floats on the water", "who sells bread", "a stone sinks", "snow lies in the hills"]


def model_of(family):
    return RoutedModel(tiny_moe(family), tiny_tokenizer(), name=family)


def test_what_an_expert_adds_is_its_weight_times_its_outputs_norm():
    model = model_of("qwen3_moe")
    found = outputs_of(model, TEXTS[0])
    read = read_routing(model, [TEXTS[0]])
    inputs = {}
    blocks = [layer.mlp for layer in model.model.model.layers]
    handles = [
        block.experts.register_forward_pre_hook(lambda module, args, i=i: inputs.update({i: args[0]}))
        for i, block in enumerate(blocks)
    ]
    with torch.no_grad():
        model.model(input_ids=read.tokens, use_cache=False)
        wanted = torch.zeros_like(found.added)
        for i, block in enumerate(blocks):
            for x, index, weights in zip(inputs[i], read.experts[0, :, i], read.weights[0, :, i], strict=True):
                for expert, weight in zip(index.tolist(), weights.tolist(), strict=True):
                    gate, up = (block.experts.gate_up_proj[expert] @ x).chunk(2)
                    out = block.experts.down_proj[expert] @ (torch.nn.functional.silu(gate) * up)
                    wanted[i, expert] += weight * float(out.norm())
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(found.added, wanted, rtol=1e-4, atol=1e-6)
    assert found.used.sum(1).tolist() == [2 * read.real.sum()] * len(blocks)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.model.modules())


def test_experts_are_in_order_with_how_sure_it_is():
    found = rank_experts(model_of("qwen3_moe"), TEXTS)
    assert len(found.experts) == 3 * 8 and found.texts == 4
    for layer in (0, 1, 2):
        own = [one for one in found.experts if one.layer == layer]
        assert [one.rank for one in own] == list(range(1, 9)) and {one.expert for one in own} == set(range(8))
        assert [one.saliency for one in own] == sorted(one.saliency for one in own)
        assert sum(one.load for one in own) == pytest.approx(1)
        assert all(one.rank_low <= one.rank <= one.rank_high for one in own)
        assert all(one.saliency_low <= one.saliency_high for one in own)
        assert found.least(0.25)[layer] == sorted(one.expert for one in own[:2])
    assert sum(one.tokens for one in found.experts if one.layer == 0) == 2 * sum(map(len, TEXTS))


def test_of_experts_that_no_text_uses_nothing_is_said():
    found = rank_experts(model_of("qwen3_moe"), ["on", "we"])
    unused = [one for one in found.experts if not one.texts]
    assert unused and all(one.saliency == one.load == one.tokens == 0 and one.most == () for one in unused)
    assert {(one.rank_low, one.rank_high) for one in unused} == {(1, 8)}


def test_how_steady_the_least_are_and_which_are_rare():
    found = rank_experts(model_of("qwen3_moe"), TEXTS)
    unused = [(one.layer, one.expert) for one in found.experts if not one.tokens]
    assert [(one.layer, one.expert) for one in found.rare(1)] == unused and len(found.rare(5)) == 24
    for layer, share in found.steady(0.25).items():
        ranks, least = found.resampled[layer], found.least(0.25)[layer]
        used = [one for one in least if (layer, one) not in unused]
        again = [len({*(row <= 2).nonzero()[0].tolist()} & {*used}) / len(used) for row in ranks]
        assert len(ranks) == 999 and share == pytest.approx(sum(again) / 999) and 0 < share < 1
    assert unused == [(0, 7)] and 0 not in found.steady(0.125), "of one that is not used nothing is known"
    assert set(found.steady(1.0).values()) == {1.0}


def test_a_model_in_memory_is_read_with_its_tokenizer_and_left_as_it_was():
    model = tiny_moe("qwen3_moe").train()
    with pytest.raises(SettingError, match="say tokenizer="):
        rank_experts(model, TEXTS)
    found = rank_experts(model, TEXTS, ban="most:1", tokenizer=tiny_tokenizer())
    assert found.experts == rank_experts(model_of("qwen3_moe"), TEXTS, ban="most:1").experts
    assert all(one.training for one in model.modules()) and all(one.requires_grad for one in model.parameters())


def test_a_ranking_prints_in_brief():
    found = rank_experts(model_of("qwen3_moe"), TEXTS)
    said = repr(found).splitlines()
    assert said[0] == "Ranking('qwen3_moe': 3 layers × 8 experts by 4 texts, least to most added" and len(said) == 4
    (least, most) = ([one.expert for one in found.experts if one.layer == 1 and one.rank == rank] for rank in (1, 8))
    assert said[2].strip().startswith(f"layer 1: {least[0]}, ") and said[2].endswith(f", {most[0]}")
    many = replace(found, experts=tuple(one._replace(layer=i) for i in range(60) for one in found.experts[:8]))
    assert repr(many).count("\n") < 9 and "layer 59: " in repr(many), "of the first layers and the last"


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3", "mixtral", "gpt_oss", "granitemoe", "dbrx"])
def test_other_families(family):
    assert sum(one.saliency > 0 for one in rank_experts(model_of(family), TEXTS[:2]).experts) > 3


def test_repeated_texts_count_once():
    once = rank_experts(model_of("olmoe"), TEXTS)
    with pytest.warns(UserWarning, match="texts are given again"):
        often = rank_experts(model_of("olmoe"), TEXTS * 5)
    assert often.experts == once.experts


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(DataError, match="two different texts or more"):
        rank_experts(model_of("olmoe"), TEXTS[:1])
    with pytest.raises(ModelError, match="weighs elsewhere"):
        rank_experts(model_of("llama4_text"), TEXTS)
    with pytest.raises(DataError, match=r"Expected a list of texts, got the text 'texts\.txt'"):
        rank_experts(model_of("olmoe"), "texts.txt")
    with pytest.raises(DataError, match="Expected a list of texts, got RoutedModel"):
        rank_experts(TEXTS, model_of("olmoe"))
    with pytest.raises(SettingError, match=r"Expected experts as least:2 .*; got 3; write them so"):
        rank_experts(model_of("olmoe"), TEXTS, ban=3)
    found = rank_experts(model_of("olmoe"), iter(TEXTS[:2]))
    with pytest.raises(SettingError, match=r"a share of a layer's experts from 0 to 1, got 2; .*chosen\('least:2'\)"):
        found.least(2)


def test_the_command_writes_a_row_an_expert(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "model", "olmoe")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    command = ["experts", str(tmp_path / "texts.txt"), "--model", str(folder), "--out", str(tmp_path / "ranking.jsonl")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "ranking.jsonl").read_text().splitlines()]
    assert len(rows) == 3 * 8 and rows[0]["rank"] == 1 and rows[0]["fingerprint"]
    assert "4 texts" in done.output
    used = [{number for number in range(4) if number in row["most"]} for row in rows if row["texts"] < 3]
    first = sum(0 in texts for texts in used)
    said = " ".join(done.output.split())
    assert f"{len(used)} of 24 experts are used by fewer than 3 texts; {used.count(set())} of them by none." in said
    assert f"text 0 uses {first}" in said
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 1, "what is there is left"


@pytest.mark.parametrize("read", [rank_experts, lambda model, texts: routing_statistics(texts, model)])
def test_texts_whose_routing_overflows_are_refused(read):
    model = RoutedModel(tiny_moe("qwen3_moe"), tiny_tokenizer())
    texts = ["A boat floats on water", "Stones sink", "the cat sat"]
    with torch.no_grad():
        model.model.model.embed_tokens.weight[model.tokenizer("S")["input_ids"][0]] = torch.nan
    with pytest.raises(NotFinite, match="got NaN or infinity"):
        read(model, texts)
