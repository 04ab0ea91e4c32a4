"""Router logits, weights and ids of every family in one call, with padding on either side."""

from contextlib import ExitStack

import pytest
import torch
from models.by_hand import FAMILIES, model_of
from models.test_replaying import LENGTHS, batch, recorded
from rounding import assert_near
from routing.naive import routed_model, shared_model

from c3po_adaptive import RoutedModel, read_routing, replaying, watching
from c3po_adaptive.errors import DataError, SettingError, ShapeError
from c3po_adaptive.models.replaying import sites_of
from c3po_adaptive.models.traced import record
from c3po_adaptive.routing.intercept import intercepted
from c3po_adaptive.routing.styles import Change
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer

MORE = ("phimoe", "zaya", "deepseek_v4", "jamba", "qwen3_next", "longcat_flash")


def made(family):
    model = model_of(family) if family in FAMILIES else tiny_moe(family)
    return model.requires_grad_(False)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", [*FAMILIES, *MORE])
def test_each_token_is_read_as_alone(family, side):
    model, inputs = made(family), batch(side)
    found = read_routing(model, {key: inputs[key] for key in ("input_ids", "attention_mask")})
    B, T, L, E = found.logits.shape
    assert (2, 11, len(found.layers)) == (B, T, L) and E >= 8
    assert found.weights.shape == found.experts.shape == (B, T, L, 1 if family == "zaya" else 2)
    assert torch.equal(found.real, inputs["attention_mask"].bool()) and torch.equal(found.tokens, inputs["input_ids"])
    assert found.logits[~found.real].isnan().all() and not found.weights[~found.real].any()
    assert (found.experts[~found.real] == -1).all()
    for i, length in enumerate(LENGTHS):
        ids = inputs["input_ids"][i][found.real[i]][None]
        _, experts, weights = recorded(model, {"input_ids": ids, "use_cache": False})
        assert torch.equal(found.experts[i, found.real[i]], experts[0])
        alone = read_routing(model, {"input_ids": ids})
        assert alone.real.all() and alone.logits.shape[1] == length
        assert_near(found.logits[i, found.real[i]], alone.logits[0], by=2e-5)
        assert_near(found.weights[i, found.real[i]], weights[0], scale=alone.logits[0])


def test_probabilities_are_read_as_logits():
    model, ids = made("gemma4_text"), batch()["input_ids"][:1]
    found, hidden = read_routing(model, {"input_ids": ids}), {}
    router = model.get_decoder().layers[1].router
    handle = router.proj.register_forward_hook(lambda module, args, out: hidden.update(logits=out))
    model(ids, use_cache=False)
    handle.remove()
    difference = found.logits[0, :, 1] - hidden["logits"]
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, 8), atol=1e-4, rtol=0)


def test_gradients_reach_the_routers_of_a_model_in_training():
    model, inputs = model_of("olmoe").train(), batch("left")
    found = read_routing(model, inputs)
    found.logits[found.real].logsumexp(-1).square().mean().backward()
    assert all(layer.mlp.gate.weight.grad.any() for layer in model.get_decoder().layers)
    with torch.no_grad():
        assert not read_routing(model, inputs).logits.requires_grad
    assert model.training


def test_texts_are_read_as_a_trace_records_them():
    model, texts = shared_model("olmoe"), ["the boat floats", "so"]
    found = read_routing(model, texts)
    assert found.real.sum(1).tolist() == [15, 2] and not found.real[1, 0]
    for i, text in enumerate(texts):
        trace = record(model, text)
        assert torch.equal(found.tokens[i, found.real[i]], trace.tokens)
        assert torch.equal(found.experts[i, found.real[i]][:-1], trace.experts[:-1])
        torch.testing.assert_close(found.weights[i, found.real[i]][:-1], trace.weights[:-1], atol=1e-5, rtol=0)
    assert read_routing(model, texts[0]).logits.shape == (1, 15, 3, 8)


def test_texts_are_read_by_a_model_in_training_with_its_tokenizer():
    texts, loaded = ["the boat floats", "so"], shared_model("olmoe")
    model = model_of("olmoe").train()
    found = read_routing(model, texts, tokenizer=loaded.tokenizer)
    assert torch.equal(found.tokens, read_routing(loaded, texts).tokens)
    assert found.logits.requires_grad and model.training and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("pad", [None, "<added>"], ids=["none", "without a row"])
def test_padding_needs_no_token_of_its_own(pad):
    loaded, tokenizer, texts = routed_model("olmoe", vocab_size=100), tiny_tokenizer(), ["the boat floats", "so"]
    tokenizer.pad_token = tokenizer.eos_token = None
    if pad:
        tokenizer.add_special_tokens({"pad_token": pad})
    for model in (loaded.model, other := RoutedModel(loaded.model, tokenizer)):
        found = read_routing(model, texts, tokenizer=tokenizer if model is loaded.model else None)
        assert torch.equal(found.experts, read_routing(loaded, texts).experts)
    own, padded = (model.generate(texts, max_new_tokens=3, eos_token_id=None) for model in (loaded, other))
    assert own == padded


def test_what_cannot_be_read_is_refused():
    model = shared_model("olmoe")
    with pytest.raises(SettingError, match="a tokenizer beside OlmoeForCausalLM, got none; say tokenizer="):
        read_routing(model.model, "a text")
    with pytest.raises(DataError, match=r"Expected texts \(or tokenizer\(texts, .*, got Tensor"):
        read_routing(model.model, torch.tensor([[4, 5, 6]]))
    with pytest.raises(ShapeError, match=r"input_ids \(B, T\), got \(3,\); tokenize with return_tensors"):
        read_routing(model, {"input_ids": torch.tensor([4, 5, 6])})
    with pytest.raises(ShapeError, match="input_ids"):
        read_routing(model, {"input_ids": [[4, 5, 6]]})
    with pytest.raises(ShapeError, match=r"attention_mask in the shape \(1, 3\)"):
        read_routing(model, {"input_ids": torch.tensor([[4, 5, 6]]), "attention_mask": torch.ones(1, 2)})
    with pytest.raises(DataError, match=r"ids from 0 to 127, the rows of the embedding of Olmoe.*, got 4 to 128"):
        read_routing(model, {"input_ids": torch.tensor([[4, 128]])})
    with pytest.raises(DataError, match="at most 512 tokens, which is what OlmoeForCausalLM can read, got 600"):
        read_routing(model, {"input_ids": torch.ones(1, 600, dtype=torch.long)})
    with pytest.raises(DataError):
        read_routing(model, "")
    with pytest.raises(DataError, match="Expected texts"):
        read_routing(model, [])


def test_watching_tells_what_each_layer_does_in_every_call():
    model, inputs, seen = made("olmoe"), batch("left"), []
    with watching(model, seen.append) as (layers, experts):
        model(**inputs)
        model.generate(input_ids=inputs["input_ids"][:1], max_new_tokens=2, min_new_tokens=2, do_sample=False)
    L, rows = len(layers), inputs["input_ids"].numel()
    assert [one.position for one in seen] == [*range(L)] * 3 and seen[0].probabilities.shape == (rows, experts)
    assert [len(one.experts) for one in seen[::L]] == [rows, inputs["input_ids"].shape[1], 1], "a prompt, then a token"
    read = read_routing(model, inputs)
    for one in seen[:L]:
        real = read.real.flatten()
        assert torch.equal(one.experts[real], read.experts[..., one.position, :].flatten(0, 1)[real])
        assert_near(one.logits[real], read.logits[..., one.position, :].flatten(0, 1)[real], by=2e-5)
    model(**inputs)
    assert len(seen) == 3 * L


@pytest.mark.parametrize("family", ["olmoe", "llama4_text", "jetmoe"])
@pytest.mark.parametrize("first", ["watching", "replaying"])
def test_watching_tells_what_is_used_whichever_block_was_opened_first(family, first):
    model, inputs, seen = made(family), batch("left"), []
    own = read_routing(model, inputs)
    real, k = own.real, own.experts.shape[-1] + 1
    experts = (-own.logits.nan_to_num()).topk(k, -1).indices.masked_fill(~real[:, :, None, None], -1)
    experts[real.nonzero()[0, 0], real.nonzero()[0, 1], 0] = -1  # one token routes itself in one layer
    weights = torch.rand(experts.shape, generator=torch.Generator().manual_seed(1)).masked_fill(experts == -1, 0)
    blocks = {"watching": lambda: watching(model, seen.append), "replaying": lambda: replaying(model, experts, weights)}
    with blocks.pop(first)(), next(iter(blocks.values()))():
        model(**inputs)
    for one in seen:
        wanted = experts[:, :, one.position].flatten(0, 1)
        routed = (wanted >= 0).all(-1)
        assert torch.equal(one.experts[routed], wanted[routed])
        assert_near(one.weights[routed].float(), weights[:, :, one.position].flatten(0, 1)[routed], by=1e-6)
        itself = ~routed & real.flatten()
        assert (one.experts[itself, :-1] >= 0).all() and (one.experts[itself, -1:] == -1).all()
        assert not one.weights[itself, -1:].any()
    assert len(seen) == len(own.layers)


@pytest.mark.parametrize("family", ["olmoe", "llama4_text", "jetmoe"])
def test_of_blocks_in_each_other_watching_tells_what_the_model_does(family):
    model, inputs, seen = made(family), batch("left"), []
    own = read_routing(model, inputs)
    sites, rows = sites_of(model), torch.tensor([1, 3])

    def all_rows(position, index, weights):
        return Change(
            None, own.logits[..., position, :].flatten(0, 1).nan_to_num().argmin(-1, keepdim=True), weights[:, :1]
        )

    def some(position, index, weights):
        return Change(rows, index[rows].flip(0), weights[rows].flip(0) / 2)

    def output(*blocks):
        with ExitStack() as stack, torch.no_grad():
            for block in blocks:
                stack.enter_context(block)
            return model(**inputs).logits[own.real]

    for order in ([some, all_rows], [all_rows, some]):
        seen.clear()
        changed = output(watching(model, seen.append), *(intercepted(sites, one) for one in order))
        told = {one.position: Change(None, one.experts.clamp_min(0), one.weights) for one in seen}
        again = output(intercepted(sites, lambda position, *_, told=told: told[position]))
        assert_near(again, changed, by=1e-5)
        assert (changed - output()).abs().max() > 1e-3


def test_what_was_read_is_replayed_as_the_refusal_of_the_whole_says():
    model, inputs = model_of("olmoe"), batch()
    routes = read_routing(model, inputs)
    with (
        pytest.raises(SettingError, match=r"give routes\.experts and weights=routes\.weights"),
        replaying(model, routes),
    ):
        pass
    with torch.no_grad(), replaying(model, routes.experts, weights=routes.weights):
        found = model(**inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[real], recorded(model, inputs)[0][real], atol=1e-5, rtol=0)
