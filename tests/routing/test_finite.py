"""NaN is refused where it comes up, at every door, and not taken for an answer."""

import pytest
import torch
from routing.naive import routed_model, shared_model

from c3po_adaptive import rule_named
from c3po_adaptive.errors import SettingError
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.models.traced import record
from c3po_adaptive.routing import router_rules
from c3po_adaptive.routing.finite import NotFinite, finite
from c3po_adaptive.types import Question

TEXT = "Which object can float on water?"
ASKED = Question("q", TEXT, ("a stone", "a wooden boat"))
DOORS = {
    "scores": lambda model, rule: model.score_choices(ASKED, routing=rule),
    "likelihoods": lambda model, rule: model.likelihoods([model.encode(ASKED)], rule),
    "forward": lambda model, rule: model.forward(TEXT, rule),
    "generation": lambda model, rule: model.generate(TEXT, rule, max_new_tokens=2, do_sample=False),
    "written": lambda model, rule: model.written([model.encode(ASKED)], rule),
    "tails": lambda model, rule: model.ruled([model.encode(ASKED)], rule, start=0),
    "trace": lambda model, rule: record(model, TEXT, generate=1, rule=rule),
}


@pytest.fixture(params=DOORS)
def door(request):
    return DOORS[request.param]


@pytest.mark.parametrize(
    ("family", "text", "layer"),
    [
        ("deepseek_v3", "bias:0-7=-120@last-1", 2),
        ("olmoe", "bias:3=3e38@2;bias:3=3e38@2", 2),
        ("olmoe", "temperature:1e-40", 0),
    ],
)
def test_a_rule_that_leaves_no_weights_is_refused_as_the_rule_that_it_is(door, family, text, layer):
    said = f"Expected a rule to give experts finite weights, got NaN or infinity in MoE layer {layer}"
    with pytest.raises(SettingError, match=said):
        door(shared_model(family), rule_named(text))


@pytest.fixture(scope="module")
def broken():
    """Its last layer makes NaN of every token."""
    model = routed_model("olmoe")
    model.model.get_decoder().layers[-1].input_layernorm.weight.data.fill_(torch.nan)
    return model


def test_what_a_model_makes_of_nan_is_no_answer(door, broken):
    said = "(final hidden states|router weights in MoE layer 2), got NaN or infinity.*float32 holds.*smaller change"
    with pytest.raises(NotFinite, match=said):
        door(broken, None)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_a_head_of_infinite_logits_chooses_nothing(door, value):
    """Neither as it was loaded, nor as it became."""
    model = routed_model("olmoe")
    weight = model.model.get_output_embeddings().weight.data
    model.score_choices(ASKED)
    weight[7] = value
    model.forget()
    with pytest.raises(NotFinite, match="Expected finite logits, got NaN or infinity"):
        door(model, None)
    with pytest.raises(NotFinite, match="Expected finite logits"):
        RoutedModel(model.model, model.tokenizer)


def test_nan_before_a_rule_is_not_blamed_on_the_rule_or_the_family(broken):
    with pytest.raises(NotFinite, match="Expected finite router weights in MoE layer 2"):
        broken.score_choices(ASKED, routing=rule_named("top-k:1"))


def test_a_layer_is_asked_once_at_most(monkeypatch):
    """Each time, a GPU is waited for."""
    asked, changed, rule = [], [], rule_named("top-k:1@1-2")
    monkeypatch.setattr(router_rules, "finite", lambda *given: asked.append(given) or finite(*given))
    shared_model("olmoe").forward(TEXT, lambda routing: changed.append(rule(routing)) or changed[-1])
    assert len(asked) == sum(change is not None for change in changed) < len(changed), "not where nothing is changed"


def test_padding_may_hold_anything():
    numbers = torch.tensor([[torch.nan, 1.0], [0.0, 1.0]])
    assert finite(numbers, torch.tensor([False, True])) and not finite(numbers, torch.tensor([True, True]))
    assert finite(torch.full((2, 2), 6e4, dtype=torch.float16)), "their sum is beyond float16, they are not"
