"""Prompts are attended apart from tails where a layer hands keys and values on as it got them, and beside them where it
does not."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from rounding import assert_near
from routing.naive import routed_model
from torch.nn.functional import scaled_dot_product_attention
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.olmoe import modeling_olmoe

from c3po_adaptive.errors import ModelError
from c3po_adaptive.routing import prompt_attention, tail
from c3po_adaptive.routing.prompt_attention import _attention, _Prompts, apart
from c3po_adaptive.routing.states import collate
from c3po_adaptive.routing.tail import tail_hidden
from c3po_adaptive.types import Prompt

LETTERS = [Prompt(tuple(range(30, 30 + n)), options=((41,), (43,)), lengths=(1.0, 1.0)) for n in (20, 12)]


def tails(model):
    return collate(model.prefill(LETTERS))


@torch.no_grad()
def hidden(model, batch, start=0):
    return tail_hidden(model.model, model.sites, batch, start)


def direct(model):
    return prompt_attention._DIRECT[model.model]


@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "qwen3_moe", "mixtral", "deepseek"])
def test_layers_are_direct_once_they_were_seen_to_be(family, monkeypatch):
    """The first run, from the second layer on, lays both side by side; later ones do so for the first layer alone."""
    model = routed_model(family)
    batch = tails(model)
    first = hidden(model, batch, 1)
    layers = {site.layer for site in model.sites[1:]}
    assert direct(model) == layers
    again, real = [], _Prompts.beside.fget
    monkeypatch.setattr(_Prompts, "beside", property(lambda self: again.append(self) or real(self)))
    assert torch.equal(hidden(model, batch, 1), first) and not again
    hidden(model, batch)
    assert len(again) == 1 and direct(model) == layers | {model.sites[0].layer}
    monkeypatch.setattr(tail, "apart", lambda *given: nullcontext())
    assert_near(hidden(model, batch, 1), first)


def test_eager_attention_is_left_alone():
    model = routed_model("olmoe")
    batch = tails(model)
    hidden(model, batch)  # they are direct now
    expected = hidden(model, batch)
    model.model.set_attn_implementation("eager")
    assert_near(hidden(model, batch), expected)


def unmasked(module, query, key, value, mask, **kwargs):
    return sdpa_attention_forward(module, query, key, value, None)


def test_layer_that_is_direct_no_more_is_refused(monkeypatch):
    model = routed_model("olmoe")
    batch = tails(model)
    hidden(model, batch)
    usual = SimpleNamespace(get_interface=lambda *named: unmasked)
    monkeypatch.setattr(modeling_olmoe, "ALL_ATTENTION_FUNCTIONS", usual)
    with pytest.raises(ModelError, match="Expected layer 0 of OlmoeForCausalLM to attend by sdpa, as before"):
        hidden(model, batch)


class Layer:
    num_key_value_groups = 3


@pytest.mark.parametrize("rows", [1, 4, 60])
@pytest.mark.parametrize("mask", ["seen", "added"])
@pytest.mark.parametrize("is_direct", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_is_that_of_both_side_by_side(rows, mask, is_direct, dtype):
    """With gradients; many rows are attended as they always were."""
    drawn = torch.Generator().manual_seed(rows)
    query, keys, values = (torch.randn(2, h, rows, 8, generator=drawn, dtype=dtype).requires_grad_() for h in (6, 2, 2))
    before = [torch.randn(2, 2, 5, 8, generator=drawn, dtype=dtype) for _ in range(2)]
    seen = torch.ones(2, 1, rows, 5 + rows, dtype=torch.bool).tril(5)
    seen[1, ..., :2] = False  # padding
    given = (
        seen
        if mask == "seen"
        else torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(torch.float).min)
    )
    layer = DynamicLayer()
    layer.keys, layer.values = before
    layer.is_initialized = True
    prompts = _Prompts.of(layer, is_direct)
    found, _ = _attention(Layer(), query, *prompts.update(keys, values), given, scaling=0.3)
    whole = [torch.cat([a, b], -2).repeat_interleave(3, 1) for a, b in zip(before, (keys, values), strict=True)]
    expected = scaled_dot_product_attention(query, *whole, attn_mask=seen, scale=0.3).transpose(1, 2)
    assert_near(found, expected)
    assert dtype == torch.float32 or (found - expected).abs().max() < 1e-12
    weights = torch.randn(expected.shape, generator=drawn, dtype=dtype)
    gradients = [torch.autograd.grad((x * weights).sum(), (query, keys, values)) for x in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        assert_near(one, other)


def test_other_attention_of_the_users_is_kept(monkeypatch):
    model = routed_model("olmoe")
    monkeypatch.setitem(prompt_attention.ALL_ATTENTION_FUNCTIONS._local_mapping, "sdpa", print)
    cache = DynamicCache(config=model.model.config)
    assert {type(layer) for layer in cache.layers} == {DynamicLayer}
    with apart(model.model, cache):
        assert prompt_attention.ALL_ATTENTION_FUNCTIONS["sdpa"] is print
