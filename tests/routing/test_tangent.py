"""The normalizer's tangent: exact where it touches, second order around, and never above."""

import pytest
import torch
from models.families.checks import model_of
from routing.naive import tail_scores_of
from routing.toys import questions

from c3po_adaptive.losses import right_answer_loss
from c3po_adaptive.routing.head import head
from c3po_adaptive.routing.states import tangent_of

FAMILIES = ("olmoe", "deepseek", "gpt_oss", "jamba", "qwen3_next")


def both(model, states, weights, own):
    """Loss and gradient with the full head and with the tangent."""
    found = []
    for way in ("full", "tangent"):
        free = weights.clone().requires_grad_()
        everything = torch.ones_like(own, dtype=torch.bool)
        tails = tail_scores_of(model, states, torch.arange(len(states)), own, everything.any(-1), everything, head=way)
        loss = right_answer_loss(tails(free), torch.zeros(len(states)).long(), "choices")
        found.append((loss.detach(), torch.autograd.grad(loss.sum(), free)[0], tails.spent))
    return found


@pytest.fixture(params=FAMILIES)
def prepared(request):
    model = model_of(request.param)
    states = model.prefill([model.encode(q) for q in questions(3)])
    return model, states, torch.stack([s.own for s in states])


def test_exact_on_the_models_own_pathway(prepared):
    model, states, own = prepared
    (full, gradient, work), (tangent, other, less) = both(model, states, own, own)
    torch.testing.assert_close(tangent, full, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other, gradient, atol=1e-5, rtol=1e-4)
    for a, b in zip(work, less, strict=True):
        assert b.forward.head < a.forward.head / 5
        assert b.forward.experts == a.forward.experts


def test_likelihoods_are_never_too_low(prepared):
    model, states, own = prepared
    noise = torch.rand(own.shape, generator=torch.Generator().manual_seed(0))
    aside = noise * own.sum(-1, keepdim=True) / noise.sum(-1, keepdim=True)
    everywhere = torch.ones(own.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        full, tangent = (
            tail_scores_of(model, states, torch.arange(3), own, everywhere, head=way)(aside)
            for way in ("full", "tangent")
        )
    error = (tangent - full)[full.isfinite()]
    assert (error > -1e-5).all(), "the plane lies below the normalizer"
    assert error.max() > 1e-4


def test_twice_as_far_away_four_times_as_wrong(prepared):
    model, states, _ = prepared
    plane = tangent_of(model.model, states)
    aside = torch.randn(plane.hidden.shape, generator=torch.Generator().manual_seed(0))
    errors = []
    for step in (0.05, 0.1):
        hidden = plane.hidden + step * aside
        errors.append((head(model.model, hidden[None])[0].logsumexp(-1) - plane.at(hidden)).sum())
    assert errors[1] / errors[0] == pytest.approx(4, rel=0.2)


def test_the_plane_is_the_normalizer_and_its_gradient(prepared):
    model, states, _ = prepared
    plane = tangent_of(model.model, states)
    hidden = torch.cat([s.final for s in states])
    normalizer = head(model.model, hidden[None])[0].logsumexp(-1)
    torch.testing.assert_close(plane.at(hidden), normalizer, atol=1e-5, rtol=1e-5)
    step = 3e-3 * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
    rise = head(model.model, (hidden + step)[None])[0].logsumexp(-1) - normalizer
    torch.testing.assert_close(plane.at(hidden + step) - normalizer, rise, atol=1e-4, rtol=0.02)


def test_states_keep_theirs(prepared, monkeypatch):
    model, states, _ = prepared
    first = tangent_of(model.model, states)
    monkeypatch.setattr("c3po_adaptive.routing.head.head", None)
    again = tangent_of(model.model, states[::-1])
    assert torch.equal(again.slope[-len(states[0].final) :], first.slope[: len(states[0].final)])
