"""A model is told by every weight."""

import pytest
import torch
from routing.naive import routed_model

from c3po_adaptive.errors import ModelError
from c3po_adaptive.models import fingerprint as fingerprints
from c3po_adaptive.models.fingerprint import fingerprint, numbers_of
from c3po_adaptive.storage import identity
from c3po_adaptive.storage.identity import routing_versions, versions


@pytest.fixture
def model():
    return routed_model("olmoe")


def test_the_same_weights_are_the_same_model(model):
    assert fingerprint(model) == fingerprint(model) == fingerprint(routed_model("olmoe"))
    assert fingerprint(model) != fingerprint(routed_model("olmoe", seed=1))
    assert fingerprint(model) != fingerprint(routed_model("qwen2_moe"))


@pytest.mark.parametrize("part", ["experts", "self_attn.q_proj", "lm_head", "embed_tokens", "gate"])
def test_any_weight_makes_another(model, part):
    before = fingerprint(model)
    name, weight = next((n, p) for n, p in model.model.named_parameters() if part in n)
    with torch.no_grad():
        weight.view(-1)[-1] += 1e-3
    assert fingerprint(model) != before, name


def test_buffers_and_adapters_count(model):
    before = fingerprint(model)
    layer = model.model.get_decoder().layers[0]
    layer.register_buffer("scale", torch.ones(2))
    with_buffer = fingerprint(model)
    assert with_buffer != before
    layer.adapter = torch.nn.Linear(2, 2)
    assert fingerprint(model) not in (before, with_buffer)
    del layer.adapter, layer.scale
    assert fingerprint(model) == before


def test_what_follows_from_the_configuration_does_not(model):
    """Rotary frequencies may be computed anew as longer texts come."""
    before = fingerprint(model)
    model.model.get_decoder().layers[0].register_buffer("cached", torch.ones(2), persistent=False)
    assert fingerprint(model) == before


def test_hub_kernels_count_where_they_are_installed(model, monkeypatch):
    packages = {"torch", "transformers", "c3po_adaptive"}
    monkeypatch.setattr(identity, "_version", {}.get)
    plain, alone = fingerprint(model), numbers_of(model)
    assert {*routing_versions()} == packages and "kernels" not in versions()
    monkeypatch.setattr(identity, "_version", lambda name: "0.19.1")
    assert {*routing_versions()} == packages | {"kernels"} and versions()["kernels"] == "0.19.1"
    assert numbers_of(model) != alone
    model.model._use_kernels = True
    model.forget()
    assert fingerprint(model) != plain


def test_is_computed_once(model, monkeypatch):
    calls = []
    original = fingerprints._hashed
    monkeypatch.setattr(fingerprints, "_hashed", lambda tensor: [calls.append(1), original(tensor)][1])
    fingerprint(model)
    assert calls
    once = len(calls)
    fingerprint(model)
    assert len(calls) == once


def test_a_model_that_should_have_stayed_as_it_was_and_did_not_is_refused(model):
    """Read from every weight: what is written through ``.data`` is not seen otherwise."""
    with model.unchanged():
        pass
    weight = next(model.model.parameters())
    with pytest.raises(ModelError, match="as it was after training, bit for bit, got other"), model.unchanged():
        weight.data[0, 0] += 1
