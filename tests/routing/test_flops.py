"""FLOPs that are counted from sizes are those that PyTorch counts as it runs."""

import pytest
import torch
from routing.naive import SCOPES, moved, routed_model, tail_scores_of
from torch.utils.flop_counter import FlopCounterMode

from c3po_adaptive.ledger import summed
from c3po_adaptive.routing.prefill import prefill
from c3po_adaptive.types import Pathway, Prompt

FAMILIES = ("olmoe", "qwen2_moe", "deepseek", "mixtral")
SHAPES = {
    "small": {},
    "many experts": {"num_experts": 24, "num_experts_per_tok": 5, "num_hidden_layers": 4},
    "wide": {"hidden_size": 64, "num_key_value_heads": 4, "vocab_size": 300},
}
PROMPTS = [
    Prompt(tuple(range(5, 5 + n)), tuple(tuple(range(40, 40 + m)) for m in options), (1.0,) * len(options))
    for n, options in ((30, (3, 5)), (12, (1, 2, 4)), (30, (6, 1)))
]


def counted(run):
    counter = FlopCounterMode(display=False)
    with counter:
        result = run()
    return counter.get_total_flops(), result


EACH = [*((family, "small") for family in FAMILIES), *(("olmoe", shape) for shape in SHAPES if shape != "small")]


@pytest.fixture(params=EACH, ids=", ".join)
def model(request):
    family, shape = request.param
    model = routed_model(family, attn_implementation="eager", **SHAPES[shape])
    model.model.set_experts_implementation("eager")
    return model


@pytest.mark.parametrize("prompt", PROMPTS[:2], ids=lambda p: f"{len(p.ids)} tokens")
def test_prefill(model, prompt):
    total, (state,) = counted(lambda: prefill(model.model, model.sites, [prompt], model.flops, "tree"))
    assert state.work.flops == pytest.approx(total, rel=0.05)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("start", [0, -1])
@pytest.mark.parametrize("scope", SCOPES)
def test_tail(model, backward, start, scope):
    states = model.prefill(PROMPTS[1:2], scope=scope)
    own = torch.stack([s.own for s in states])
    active = torch.zeros(own.shape[:2], dtype=torch.bool)
    active[:, start:] = True
    support = torch.ones_like(own, dtype=torch.bool)
    layers = active[0].nonzero().squeeze(1).tolist()
    weights = moved(Pathway(own, own, model.layers), layers).weights.requires_grad_(backward)
    tail = tail_scores_of(model, states, torch.zeros(1).long(), own, active, support, scope)

    def run():
        scores = tail(weights)
        if backward:
            torch.autograd.grad(scores[scores.isfinite()].sum(), weights)

    with torch.set_grad_enabled(backward):
        total, _ = counted(run)
    assert summed(tail.spent).flops == pytest.approx(total, rel=0.05)
    assert all(entry.flops > 0 for entry in tail.spent)
