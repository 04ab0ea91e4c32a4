"""Other parameters and modules in a model's places, and the model's own there again."""

import pytest
import torch
from answerers.tuning import Picture
from c3po_tuned.exchange import Copies, exchanged, unaltered
from torch import nn

from c3po_adaptive.errors import ModelError
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer

TOKENS = torch.tensor([[5, 6, 7]])


@pytest.fixture
def model():
    return RoutedModel(tiny_moe("olmoe"), tiny_tokenizer())


@torch.no_grad()
def logits(model):
    return model.model(TOKENS, use_cache=False).logits


class Doubled(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return 2 * self.inside(x)


def test_a_parameter_and_a_module_in_others_places(model):
    before, plain = Picture(model), logits(model)
    attention = model.model.model.layers[1].self_attn
    parts = {(attention, "v_proj"): Doubled(attention.v_proj), (model.model.model.norm, "weight"): torch.zeros(32)}
    with exchanged(parts):
        assert not logits(model).any(), "the last norm's scale is zero"
        del parts[model.model.model.norm, "weight"]
    with exchanged(parts):
        assert not torch.equal(logits(model), plain)
    assert Picture(model) == before
    assert torch.equal(logits(model), plain)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_after_an_exception(model, error):
    before = Picture(model)
    attention = model.model.model.layers[1].self_attn
    with pytest.raises(error), exchanged({(attention, "v_proj"): nn.Identity()}):
        raise error
    assert Picture(model) == before
    with pytest.raises(KeyError), exchanged({(attention, "v_proj"): nn.Identity(), (attention, "none"): nn.Identity()}):
        pass
    assert Picture(model) == before


@pytest.mark.parametrize("error", [None, ValueError])
def test_traces_that_others_leave_are_wiped_out(model, error):
    before = Picture(model)
    try:
        with unaltered(model.model):
            model.model.model.layers[0].self_attn.q_proj = nn.Identity()
            model.model.model.layers[0].more = nn.Identity()
            model.model.trace = model.model.config.trace = "here"
            model.model.config.vocab_size = 7
            if error:
                raise error
    except ValueError:
        pass
    assert Picture(model) == before


class TestCopies:
    def test_a_shared_parameter_is_one(self):
        """An embedding that is the head as well."""
        model = RoutedModel(tiny_moe("olmoe", tie_word_embeddings=True), tiny_tokenizer())
        before, plain = Picture(model), logits(model)
        shared = model.model.get_input_embeddings().weight
        copies = Copies.of(model.model, [shared], "embeddings")
        assert len(copies.trained) == 1
        with copies.placed():
            assert torch.equal(logits(model), plain)
        with torch.no_grad():
            next(iter(copies.trained.values())).mul_(2)
        with copies.placed():
            assert model.model.get_output_embeddings().weight is model.model.get_input_embeddings().weight
            assert not torch.equal(logits(model), plain)
        assert Picture(model) == before

    def test_gradients_reach_copies_alone(self, model):
        scales = [layer.input_layernorm.weight for layer in model.model.model.layers]
        copies = Copies.of(model.model, scales, "norms")
        with copies.placed():
            model.model(TOKENS, use_cache=False).logits.logsumexp(-1).sum().backward()
        assert all(copy.grad.any() for copy in copies.trained.values())
        assert all(p.grad is None for p in model.model.parameters())

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda norm: nn.Parameter(norm.weight.to(torch.uint8), requires_grad=False), "in torch.uint8 on cpu"),
            (lambda norm: nn.Parameter(norm.weight.to("meta")), "in torch.float32 on meta"),
        ],
    )
    def test_what_cannot_be_trained_is_refused(self, model, change, said):
        norm = model.model.model.norm
        norm.weight = change(norm)
        with pytest.raises(ModelError, match=f"norms in memory and not quantized, got model.norm.weight {said}"):
            Copies.of(model.model, [norm.weight], "norms")
        with pytest.raises(ModelError, match="OlmoeForCausalLM to have norms, found none"):
            Copies.of(model.model, [], "norms")
