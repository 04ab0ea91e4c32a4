"""Every short cut against the plain way, in five families: alone, whole, anew. (Warm references: test_warm.py.)"""

from dataclasses import replace

import pytest
import torch
from models.families.checks import model_of, moved, naive
from rounding import assert_near
from routing.naive import tail_scores_of
from routing.toys import questions

from c3po_adaptive.losses import right_answer_loss
from c3po_adaptive.routing.dense_experts import DENSE
from c3po_adaptive.types import Prompt

FAMILIES = ("olmoe", "deepseek", "gpt_oss", "jamba", "qwen3_next")
LETTERS = [Prompt(tuple(range(5, 5 + n)), ((40,), (41,), (43,)), (1.0,) * 3) for n in (7, 9, 20)]
CLOSE = 3e-5
RECURRENT = 5 * CLOSE  # recurrent states add up the rounding of every step, by CPU more or less


@pytest.fixture(params=FAMILIES)
def model(request):
    return model_of(request.param)


def cloze(model, n=6):
    return [model.encode(q) for q in questions(n)]


def run(model, states, pathway, **settings):
    """Scores, and the gradient of a loss, in the pathways."""
    weights = pathway.weights.clone().requires_grad_()
    tails = tail_scores_of(model, states, torch.arange(len(states)), pathway.own, pathway.changed(), **settings)
    scores = tails(weights)
    loss = right_answer_loss(scores, torch.zeros(len(states)).long(), "choices").sum()
    return scores.detach(), torch.autograd.grad(loss, weights)[0]


@pytest.mark.parametrize("overhead", [0, 48, 10**6])
def test_prompts_together_are_prompts_alone(model, overhead, monkeypatch):
    """However they are grouped: one by one, by width, all at once."""
    monkeypatch.setattr("c3po_adaptive.routing.grouping.OVERHEAD", overhead)
    prompts = [*cloze(model), *LETTERS]
    together = model.prefill(prompts, keep=False)
    for prompt, state in zip(prompts, together, strict=True):
        (alone,) = model.prefill([prompt], keep=False)
        for name in ("entry", "own", "router", "token_scores", "final"):
            assert_near(getattr(state, name), getattr(alone, name), by=RECURRENT)
        for kept, other in zip(state.cache, alone.cache, strict=True):
            assert kept.tensors.keys() == other.tensors.keys()
            for key, tensor in kept.tensors.items():
                assert_near(tensor, other.tensors[key], by=RECURRENT)


@pytest.mark.parametrize("overhead", [0, 10**6])
def test_tails_together_are_tails_alone_and_full_forwards(model, overhead, monkeypatch):
    monkeypatch.setattr("c3po_adaptive.routing.grouping.OVERHEAD", overhead)
    states = model.prefill(cloze(model))
    pathway = moved(model, torch.stack([s.own for s in states]))
    pathway.weights[::2, -2] = pathway.own[::2, -2]  # half of them begin one layer later
    scores, gradient = run(model, states, pathway)
    for i, state in enumerate(states):
        alone, slope = run(model, [state], pathway[[i]])
        n = len(state.prompt.options)
        assert_near(scores[i, :n], alone[0], by=CLOSE)
        assert_near(gradient[i], slope[0], by=CLOSE)
        with torch.no_grad():
            lengths = torch.tensor(state.prompt.lengths)
            assert_near(scores[i, :n], naive(model, state, pathway[[i]]) / lengths, by=CLOSE)


def test_letters_alone_are_the_whole_vocabulary(model):
    states = model.prefill(LETTERS)
    pathway = moved(model, torch.stack([s.own for s in states]))
    (full, slope), (letters, other) = (run(model, states, pathway, relative=r) for r in (False, True))
    assert_near(letters.log_softmax(-1), full.log_softmax(-1), by=CLOSE)
    assert_near(other, slope, by=CLOSE)


def test_those_that_stopped_change_nothing_for_the_others(model):
    states = model.prefill(cloze(model, 4))
    pathway = moved(model, torch.stack([s.own for s in states]))
    tails = tail_scores_of(model, states, torch.arange(4), pathway.own, pathway.changed())
    with torch.no_grad():
        every = tails(pathway.weights)
        spent = list(tails.spent)
        running = torch.tensor([True, False, True, False])
        some = tails(pathway.weights, running)
        again = tails(pathway.weights)
    assert_near(some[running], every[running], by=CLOSE)
    assert_near(again, every, by=CLOSE)
    for before, after, runs in zip(spent, tails.spent, running.tolist(), strict=True):
        assert after == before + before + before if runs else after == before + before


def test_all_experts_at_once_are_each_alone():
    model = model_of("olmoe")
    states = model.prefill(cloze(model), keep=False)
    pathway = moved(model, torch.stack([s.own for s in states]))
    support = torch.ones_like(pathway.own, dtype=torch.bool)
    scores, gradient = run(model, states, pathway, support=support)
    model.model.set_experts_implementation(DENSE)
    other, slope = run(model, states, replace(pathway), support=support)
    assert_near(other, scores, by=CLOSE)
    assert_near(slope, gradient, by=CLOSE)
    with torch.no_grad():  # weights that are altered are seen
        model.sites[-1].experts.down_proj.mul_(2)
    assert (run(model, states, pathway, support=support)[0] - other).nan_to_num().abs().max() > 1e-3
