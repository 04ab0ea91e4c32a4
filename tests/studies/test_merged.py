"""Cases of routing that people leave wrong: what is done to the model, and to nothing else."""

import json
import re
from pathlib import Path

import pytest
import torch
from c3po_bed.expert_families import EXPERTS, FAMILIES
from merged import cases, quantized
from merged.bed import Bed, layers_of, with_rows
from merged.prompts import negatives, prompts
from merged.pruned import pruned, saliency
from transformers import AutoModelForCausalLM, AutoTokenizer

from c3po_adaptive.errors import DataError, UnknownNameError
from c3po_adaptive.testing import write_tiny_checkpoint

STUDY = Path(cases.__file__).parent
TEXTS = ["A boat floats on water", "because it is light", "Stones sink"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "qwen2_moe", "qwen2_moe")


@pytest.fixture
def bed(folder, tmp_path):
    for family in FAMILIES.values():
        for kind in family.learned:
            rows = [{"question": f"{kind} {i}?", "choices": ["a", "b"], "answer": 0} for i in range(40)]
            (tmp_path / f"{kind}.train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Bed(tmp_path, folder)


def test_every_name_is_a_case_and_no_other():
    class Called(Exception):
        pass

    class Nothing:
        def __getattr__(self, name):
            raise Called

    for name in cases.names():
        with pytest.raises(Called):
            cases.made(name, Nothing())
    for wrong in ("orphans-5", "hidden-8", "pruned-12-books", "random-0-negative"):
        with pytest.raises(UnknownNameError, match="name one of"):
            cases.made(wrong, Nothing())


def test_prompts_are_of_the_experts_own_family_and_negatives_of_others(bed):
    positive = prompts(bed.kinds, 2, 0)
    assert list(positive) == list(EXPERTS) and {len(texts) for texts in positive.values()} == {2}
    for name, family in FAMILIES.items():
        assert all(text.split()[1] in family.learned for text in positive[name])
    negative = negatives(positive, 0)
    assert all(len(negative[name]) == 2 and not {*negative[name]} & {*positive[name]} for name in EXPERTS)
    assert prompts(bed.kinds, 2, 1) != positive == prompts(bed.kinds, 2, 0)
    with pytest.raises(DataError, match=r"movie_review_polarity\.train\.jsonl"):
        prompts(bed.kinds / "none", 2, 0)


def test_saliency_is_the_mean_of_weight_times_norm_over_the_tokens_routed_to_an_expert(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    together = saliency(model, tokenizer, TEXTS)
    layer = layers_of(model)[0]
    seen = {expert: [] for expert in range(model.config.num_experts)}
    experts = model.model.layers[layer].mlp.experts

    def look(module, given):
        for x, index, weight in zip(*given, strict=True):
            for expert, w in zip(index.tolist(), weight.tolist(), strict=True):
                alone = type(module).forward(module, x[None], torch.tensor([[expert]]), torch.ones(1, 1))
                seen[expert].append(w * alone.norm().item())

    with torch.no_grad():
        hook = experts.register_forward_pre_hook(look)
        for text in TEXTS:
            model(**tokenizer(text, return_tensors="pt"))
        hook.remove()
    wanted = torch.tensor([sum(own) / max(1, len(own)) for own in seen.values()])
    torch.testing.assert_close(together[layer], wanted, rtol=1e-4, atol=1e-6)


def test_pruned_keeps_the_best_experts_and_their_rows(bed):
    model, whole = bed.model(), bed.model()
    layers = layers_of(model)
    count = model.config.num_experts
    worth = {layer: torch.arange(float(count)).flip(0) for layer in layers}  # the first ones are best
    pruned(model, worth, count // 2)
    ids = torch.arange(5)[None]
    assert model(ids).logits.isfinite().all() and model.config.num_experts == count // 2
    for layer in layers:
        kept, own = whole.model.layers[layer].mlp, model.model.layers[layer].mlp
        assert torch.equal(own.gate.weight, kept.gate.weight[: count // 2])
        assert torch.equal(own.experts.down_proj, kept.experts.down_proj[: count // 2])


def test_four_bits_are_fifteen_values_a_group_and_nothing_but_experts_and_routers_is_rounded(bed):
    weight = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    found = quantized.rounded(weight)
    assert all(len(part.unique()) <= 15 for row in found for part in row.split(quantized.GROUP))
    step = weight.unflatten(-1, (-1, quantized.GROUP)).abs().amax(-1, keepdim=True) / 7
    assert ((found - weight).unflatten(-1, (-1, quantized.GROUP)).abs() <= step / 2 + 1e-6).all()
    before, after = bed.model().state_dict(), cases.made("int4", bed).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(".experts." in name or name.endswith("mlp.gate.weight") for name in changed)


def test_rows_are_put_into_the_routers_named_alone(bed):
    model = bed.model()
    layer = layers_of(model)[-1]
    rows = torch.randn_like(model.model.layers[layer].mlp.gate.weight)
    with_rows(model, {layer: rows})
    assert torch.equal(model.model.layers[layer].mlp.gate.weight, rows)
    other = bed.model()
    assert all(
        torch.equal(own, now) or name == f"model.layers.{layer}.mlp.gate.weight"
        for (name, own), now in zip(other.state_dict().items(), model.state_dict().values(), strict=True)
    )


def test_the_fitted_router_may_use_one_expert_alone(bed):
    assert cases.made("top-1", bed).config.num_experts_per_tok == 1
    assert cases.made("fitted", bed).config.num_experts_per_tok == 2


def test_gates_of_the_protocol_are_those_that_were_kept():
    folder = STUDY / "results" / "gates"
    told = dict(re.findall(r"`([\w-]+)` ([+−][\d.]+ \[[^]]+\])", (STUDY / "protocol.md").read_text()))
    for name, said in told.items():
        gate = json.loads((folder / f"{name}.json").read_text())
        gain, low, high = gate["told - as merged"]
        assert said == f"{gain:+} [{low}, {high}]".replace("-", "−"), name
    assert len(told) == 8
