"""Rewiring against descent by full forwards through the family's own routers, and its edges."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from c3po_rivals.rewiring import Rewiring
from full_forwards import FAMILIES, context_of, scores_of
from routing.naive import own_routing
from routing.test_router_rules import patched

from c3po_adaptive.errors import DataError
from c3po_adaptive.testing.answerers import toy_questions

ASKED = toy_questions(3, "asked")


def made(family, **settings):
    context = context_of(family)
    return context, Rewiring(**settings).prepare(context)


def context_loss(model, ids, delta):
    """Mean next-token loss of a text, its routers shifted by ``delta [L, E]``."""
    with patched(model, delta):
        logits = model.model(torch.tensor([ids]), use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))


@pytest.mark.parametrize("weighting", ["hard", "soft"])
@pytest.mark.parametrize("family", FAMILIES)
def test_is_descent_of_the_prompts_own_loss_through_the_familys_router(family, weighting):
    context, answerer = made(family, steps=3, layers=2, weighting=weighting)
    model, answers = context.model, answerer.answer(ASKED)
    for prompt, answer in zip(context.prompts(ASKED), answers, strict=True):
        confidence = torch.tensor(answer.layer_scores)
        if weighting == "hard":
            weights = torch.zeros(len(model.layers)).index_fill(0, confidence.topk(2).indices, 1.0)
        else:
            weights = confidence / confidence.mean()
        assert answer.layers == tuple(torch.tensor(model.layers)[weights > 0].tolist())
        delta = torch.zeros(len(model.layers), model.n_experts, requires_grad=True)
        adam, losses = torch.optim.Adam([delta], lr=0.05), []
        for _ in range(3):
            loss = context_loss(model, prompt.ids, weights[:, None] * delta)
            (delta.grad,) = torch.autograd.grad(loss, delta)
            losses.append(float(loss.detach()))
            adam.step()
        shift = (weights[:, None] * delta).detach()
        losses.append(float(context_loss(model, prompt.ids, shift).detach()))
        assert losses[-1] < losses[0]
        with patched(model, shift):
            assert answer.scores == pytest.approx(scores_of(model.model, prompt), abs=5e-3)


@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe"])
def test_confidence_is_that_of_the_chosen_experts_over_the_context(family):
    context, answerer = made(family)
    for prompt, answer in zip(context.prompts(ASKED), answerer.answer(ASKED), strict=True):
        with torch.no_grad():
            weights, probabilities = own_routing(context.model.model, prompt.ids[:-1])
        expected = torch.stack(
            [-probabilities[:, layer][weights[:, layer] > 0].log().mean() for layer in range(len(context.model.layers))]
        )
        torch.testing.assert_close(torch.tensor(answer.layer_scores), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_step_is_the_base_bit_for_bit(family):
    context, answerer = made(family, steps=0)
    plain = context.plain(ASKED)
    assert [a.scores for a in answerer.answer(ASKED)] == [a.scores for a in plain]
    moved = made(family)[1].answer(ASKED)
    assert all(a.scores != pytest.approx(b.scores, abs=1e-4) for a, b in zip(moved, plain, strict=True))


def test_layers_left_out_stay_as_they_are():
    context, answerer = made("olmoe", layers=1)
    for answer in answerer.answer(ASKED):
        best = int(torch.tensor(answer.layer_scores).argmax())
        assert answer.layers == (context.model.layers[best],)


def test_costs_what_was_run():
    costs = [made("olmoe", steps=n)[1].answer(ASKED)[0].cost for n in (1, 4)]
    assert costs[1].optimisation == pytest.approx(4 * costs[0].optimisation, rel=0.05)
    assert costs[0].answer == pytest.approx(costs[0].prefill), "the prompt and its options once more"
    entry = made("olmoe", layers=3)[1].answer(ASKED)[0].ledger.optimisation
    assert 0 < entry.backward.total <= entry.forward.total * 1.5


def test_does_not_see_the_choices_while_it_learns():
    _, answerer = made("olmoe")
    one = answerer.answer([ASKED[1]])[0]
    other = answerer.answer([replace(ASKED[1], choices=ASKED[1].choices[::-1])])[0]
    assert one.layer_scores == other.layer_scores
    assert one.scores == pytest.approx(other.scores[::-1], abs=1e-4)


def test_a_prompt_without_a_next_token_is_refused():
    context, answerer = made("olmoe")
    short = replace(context.prompts(ASKED)[0], ids=(5,))
    with (
        patch.object(type(context), "prompts", lambda self, questions: [short]),
        pytest.raises(DataError, match="two tokens or more, got one for question 'asked0'"),
    ):
        answerer.answer(ASKED[:1])
