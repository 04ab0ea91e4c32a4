"""Merges by the real tool: its experts are trained by family, and nothing but the tool puts them together."""

import json
from dataclasses import replace

import c3po_bed
import pytest
import torch
import yaml
from merged import cases, finetunes, gate, real
from merged.finetunes import DONOR, FAMILIES
from merged.make import make
from merged.prompts import negatives, prompts
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from c3po_adaptive import load_dense_model, load_moe_model
from c3po_adaptive.errors import ArtifactError, ModelError, UnknownNameError
from c3po_adaptive.testing import tiny_tokenizer
from c3po_adaptive.types import Question


def llama(seed=0):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=128, num_key_value_heads=1, tie_word_embeddings=True, **sizes)
    return LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for family in c3po_bed.FAMILIES.values():
        for kind in family.learned:
            rows = [{"question": f"{kind} {i}?", "choices": [kind[::-1], "none"], "answer": 0} for i in range(8)]
            (folder / f"{kind}.train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(finetunes, "donor", lambda name: (llama(), tiny_tokenizer()))
    monkeypatch.setattr(finetunes, "RECIPE", replace(finetunes.RECIPE, epochs=1, warmup=1, half=False))


def test_a_finetune_learns_its_family_in_its_feed_forward_layers_alone_and_is_kept(tiny, kinds, tmp_path):
    pytest.importorskip("peft", reason="the extra tuning is not installed")
    donor, sums = finetunes.finetune(["sums"], kinds, tmp_path)
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in (donor, sums))
    assert type(after) is LlamaForCausalLM and after.config.to_diff_dict() == before.config.to_diff_dict()
    assert all(torch.equal(own, now) for own, now in zip(llama().parameters(), before.parameters(), strict=True))
    learned = after.state_dict()
    changed = {name for name, own in before.state_dict().items() if not torch.equal(own, learned[name])}
    assert changed == {name for name in learned if ".mlp." in name}
    text = f"Question: svamp_operation 1?\nAnswer: {'svamp_operation'[::-1]}"
    ids = tiny_tokenizer()(text, return_tensors="pt").input_ids
    assert after(ids, labels=ids).loss < before(ids, labels=ids).loss
    assert not list(tmp_path.glob("*.pt"))
    (sums / "config.json").touch()
    at = (sums / "config.json").stat().st_mtime_ns
    assert finetunes.finetune(["sums"], kinds, tmp_path) == [donor, sums]
    assert (sums / "config.json").stat().st_mtime_ns == at
    with pytest.raises(UnknownNameError, match="'question type'"):
        finetunes.finetune(["sums", "medicine"], kinds, tmp_path)


def test_a_family_is_merged_whose_every_learned_kind_is_known_to_the_bed_and_names_say_how():
    assert all(family in c3po_bed.FAMILIES for family in FAMILIES)
    assert real.merge_named("real-hidden_avg-32-1-negative") == real.Merge("hidden_avg", 32, 1, negative=True)
    assert real.merge_named("real-hidden-8-0") == real.Merge("hidden", 8, 0, negative=False)
    assert real.merge_named("real-random-2").draw == 2
    for wrong in ("real-hidden-0-0", "real-random-0-negative", "real-uniform-8-0", "hidden-8-0"):
        assert real.merge_named(wrong) is None
    with pytest.raises(UnknownNameError, match="real-hidden-8-0"):
        cases.made("real-hidden-0-0", None)


def test_the_tool_is_told_experts_and_prompts_and_nothing_more(kinds, tmp_path):
    drawn = prompts(kinds, 2, 1)
    positive = {family: drawn[family] for family in FAMILIES}
    negative = negatives(positive, 1)
    said = real.config_of("hidden", tmp_path, positive, negative)
    assert set(said) == {"base_model", "gate_mode", "dtype", "experts"}
    assert said["base_model"] == str(tmp_path / DONOR)
    for family, expert in zip(FAMILIES, said["experts"], strict=True):
        assert expert == {
            "source_model": str(tmp_path / family.replace(" ", "_")),
            "positive_prompts": positive[family],
            "negative_prompts": negative[family],
        }
    assert "negative_prompts" not in real.config_of("hidden", tmp_path, positive, None)["experts"][0]


def test_without_the_tool_nothing_is_trained_and_nothing_is_left(kinds, tmp_path, monkeypatch):
    monkeypatch.setattr(real, "find_spec", lambda name: None)
    with pytest.raises(ArtifactError, match=r"c3po_adaptive\[merge\]"):
        make.__wrapped__(["real-hidden-8-0"], kinds, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_tool_that_gives_up_is_an_error(tmp_path):
    (tmp_path / "merge.yaml").write_text("base_model: none\nexperts: []\n")
    with pytest.raises(ModelError, match=r"gave up \(exit 1\)"):
        real.run_the_tool(tmp_path / "merge.yaml", tmp_path / "out", 0)


def test_an_expert_alone_is_the_dense_model_that_was_merged(tiny, kinds, tmp_path):
    for package, extra in (("peft", "tuning"), ("mergekit", "merge")):
        pytest.importorskip(package, reason=f"the extra {extra} is not installed")
    make.__wrapped__(["real-hidden-2-0"], kinds, tmp_path)
    merge = load_moe_model(str(tmp_path / "real-hidden-2-0"))
    assert (merge.model.config.model_type, merge.n_experts) == ("mixtral", len(FAMILIES))
    assert merge.model.config.num_experts_per_tok == 2
    assert len(yaml.safe_load((tmp_path / "real-hidden-2-0" / "mergekit_moe_config.yml").read_text())["experts"]) == 8
    asked = [Question("q", "Left?", ("left", "right"), 0, task=kind) for kind in ("svamp_operation", "clinc_domain")]
    told = [
        gate.scored(merge, load_dense_model(str(tmp_path / "dense" / name))[0], finetunes.FAMILIES, asked)
        for name in ("sums", "topic")
    ]
    for i, found in enumerate(told):  # the fine-tune takes the donor's place
        torch.testing.assert_close(found["told"][i], found[DONOR][i])
    a, b = told[0]["told"]
    assert not torch.equal(a, b) and not torch.equal(a, told[0]["all alike"][0])


def test_the_gate_counts_who_is_right_by_family_and_how_far_the_told_expert_is_above():
    kinds = ("svamp_operation", "clinc_domain")
    asked = [Question(f"{i}", "?", ("a", "b"), 0, task=kind) for kind in kinds for i in "01"]
    right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    found = {DONOR: [wrong] * 4, "all alike": [wrong] * 4}
    found |= {"as merged": [right, *[wrong] * 3], "told": [right, right, right, wrong]}
    figures = gate.figures(asked, found)
    assert figures["right"] == {DONOR: 0.0, "all alike": 0.0, "as merged": 25.0, "told": 75.0}
    gap, low, high = figures["told - as merged"]
    assert gap == 50.0 and low <= gap <= high and figures["passes"]
    assert list(figures["families"]) == ["sums", "topic"]
    assert (figures["families"]["sums"]["told"], figures["families"]["topic"]["told"]) == (100.0, 50.0)
