"""The embedded model itself. Skipped only where its dense weights cannot be had."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from c3po_adaptive import Optimizer, RemixSettings, dense_parent, load_moe_model
from c3po_adaptive.models.embedded import builder
from c3po_adaptive.tasks import demo_questions

TEXT = "The capital of France is"
EASY = {
    "Where do fish live?": ["in the water", "in the fire", "inside a stone"],
    "What do people use to cut bread?": ["a knife", "a pillow", "a cloud"],
    "Which of these can fly?": ["a bird", "a table", "a shoe"],
    "When do we see the stars?": ["at night", "at noon"],
    "What do you drink when you are thirsty?": ["water", "sand", "paper"],
    "What falls from the clouds?": ["rain", "chairs", "bread"],
}


@pytest.fixture(scope="module")
def folder(dense_weights):
    return builder.build()


@pytest.fixture(scope="module")
def model(folder):
    return load_moe_model("smollm2-moe")


def test_merged_it_has_routers_of_prompts_and_nothing_else_of_its_own(model):
    made = load_moe_model("smollm2-moe-merged")
    assert made.name == "smollm2-moe-merged" and made.fingerprint != model.fingerprint
    own, other = dict(model.model.named_parameters()), dict(made.model.named_parameters())
    differ = {name for name, tensor in other.items() if not torch.equal(tensor, own[name])}
    assert differ == {f"model.layers.{layer}.mlp.gate.weight" for layer in model.layers}
    for name in differ:
        assert torch.allclose(other[name].norm(dim=-1), torch.ones(16), rtol=0.02), "as mergekit-moe scales them"


def test_its_upper_layers_have_experts(model):
    assert len(model.sites) == 12
    assert model.layers == tuple(range(16, 28))
    assert {(site.n_experts, site.top_k) for site in model.sites} == {(16, 2)}
    assert model.model.config.model_type == "qwen2_moe"


def test_tensors_in_the_package_are_small_and_known(folder):
    assert builder.TENSORS.stat().st_size <= 8_000_000
    assert builder.digest_of_file(builder.TENSORS) == builder.TENSORS_SHA256


def test_needs_nothing_of_this_package(folder, model):
    code = f"""
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained({str(folder)!r})
model = AutoModelForCausalLM.from_pretrained({str(folder)!r}, dtype=torch.float32).eval()
with torch.no_grad():
    logits = model(**tokenizer({TEXT!r}, return_tensors="pt")).logits[0, -1, :512]
assert "c3po_adaptive" not in sys.modules
print(json.dumps(logits.tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    inputs = model.tokenizer(TEXT, return_tensors="pt")
    with torch.no_grad():
        ours = model.model(**inputs).logits[0, -1, :512]
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), ours, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(model.forward(TEXT).logits[0, -1, :512], ours, atol=1e-3, rtol=1e-4)


def test_its_dense_parent_is_saved_for_plain_transformers(dense_weights, tmp_path):
    dense, tokenizer = dense_parent("smollm2-moe")
    for part in (dense, tokenizer):
        part.save_pretrained(tmp_path)
    again, ids = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)(TEXT)
    assert ids == tokenizer(TEXT)
    expected = dense.state_dict()
    assert all(torch.equal(tensor, expected.pop(name)) for name, tensor in again.state_dict().items()) and not expected


def test_answers_easy_questions(model):
    scores = model.score_choices(list(EASY), list(EASY.values()))
    assert sum(int(s.argmax()) == 0 for s in scores) >= len(EASY) - 1


def test_answers_better_than_chance(model):
    questions = demo_questions("validation", limit=20)
    right = sum(int(s.argmax()) == q.answer for q, s in zip(questions, model.score_choices(questions), strict=True))
    chance = sum(1 / len(q.choices) for q in questions)
    assert right > chance + 1


def test_every_moe_layer_steers(model):
    """Another routing in any one layer moves the answer: routed experts carry a real share."""
    text = "Question: What falls from the clouds?\nAnswer:"
    own, base = model.pathway(text), model.forward(text).logits[0, -1].softmax(-1)
    for row in range(len(own.layers)):
        weights = own.weights.clone()
        weights[row] = weights[row].roll(5)
        moved = model.forward(text, routing=replace(own, router=weights)).logits[0, -1].softmax(-1)
        assert (moved - base).abs().sum() > 1e-3, own.layers[row]


def test_oracle_lowers_the_loss_of_the_right_answer(model):
    questions = demo_questions("validation", limit=8)
    boldly = {"name": "oracle", "of": {"name": "ngd", "lr": 0.1}}
    answers = Optimizer(model, optimizer=boldly, settings=RemixSettings()).answer(questions)
    before, after = (
        [-torch.tensor(s).log_softmax(0)[q.answer].item() for q, s in zip(questions, scores, strict=True)]
        for scores in ([a.base_scores for a in answers], [a.scores for a in answers])
    )
    assert sum(after) < sum(before)
    assert sum(a < b for a, b in zip(after, before, strict=True)) >= 7
