"""Log-likelihoods of whole options and whether they are greedy, against naive full forwards of each."""

from dataclasses import replace

import pytest
import torch
from routing.naive import FAMILIES, SCOPES, along, logits, moved, routed_model, shared_model
from routing.toys import questions

from c3po_adaptive.errors import ShapeError
from c3po_adaptive.routing import likelihoods as module
from c3po_adaptive.types import Pathway, Prompt


def naive(model, prompt, edit=None):
    """Total and greediness of each option, from one forward of its whole sequence."""
    found = []
    for option, given in zip(prompt.options, prompt.given or (0,) * len(prompt.options), strict=True):
        predicted = logits(model.model, prompt.ids + option, edit)[len(prompt.ids) - 1 + given : -1].log_softmax(-1)
        tokens = torch.tensor(option[given:])
        scores = predicted[range(len(tokens)), tokens]
        found.append((scores.sum().item(), bool((predicted.argmax(-1) == tokens).all())))
    return found


def told(found):
    return [*zip(found.total.tolist(), found.greedy.tolist(), strict=True)]


def prompts_of(model, count=6):
    """Of questions, one of them with tokens that are given; and with options of a token each, with one option, with a
    text behind one token."""
    made = [model.encode(q) for q in questions(count)]
    made[2] = replace(made[2], given=(2,) * len(made[2].options))
    letters = Prompt(made[0].ids, ((40,), (41,), (42,)), (1.0,) * 3)
    likeliest = logits(model.model, made[1].ids)[-1].argmax().item()
    return [*made, letters, Prompt(made[1].ids, ((likeliest,),), (1.0,)), Prompt((5,), (made[2].ids,), (1.0,))]


def check(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert told(one) == [(pytest.approx(total, abs=1e-4), greedy) for total, greedy in other]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [1, 32])
def test_of_the_models_own_pathway(family, batch):
    model = shared_model(family)
    prompts = prompts_of(model)
    wanted = [naive(model, prompt) for prompt in prompts]
    check(model.likelihoods(prompts, batch_size=batch), wanted)
    assert wanted[-2][0][1], "one is greedy"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scope", SCOPES)
def test_along_pathways(family, scope):
    """One of them leaves its sample alone."""
    model = shared_model(family)
    states = model.prefill(prompts_of(model), scope=scope)
    own = torch.stack([state.own for state in states])
    pathway = moved(Pathway(own, own, model.layers, scope))
    pathway.weights[0] = own[0]
    wanted = [
        naive(model, s.prompt, along(pathway.weights[b], own[b], len(s.prompt.ids) - 1, scope=scope) if b else None)
        for b, s in enumerate(states)
    ]
    check(model.likelihoods_along(states, pathway), wanted)


@pytest.mark.parametrize("family", ["olmoe", "qwen3_next", "minimax", "jamba"])
def test_they_are_the_scores_that_choices_are_made_by(family):
    """Also where layers cannot resume."""
    model = routed_model(family)
    prompts = [model.encode(q) for q in questions(3)]
    found = model.likelihoods(prompts)
    scored = model.score_choices(questions(3), format={"name": "cloze", "normalize": "none"})
    torch.testing.assert_close(torch.cat([f.total for f in found]).float(), torch.cat(scored), atol=1e-4, rtol=0)


def test_logits_of_a_few_tokens_are_held_at_a_time(monkeypatch):
    model = shared_model("olmoe")
    prompts = prompts_of(model)
    wanted = model.likelihoods(prompts)
    monkeypatch.setattr(module, "ROWS", 3)
    for one, other in zip(model.likelihoods(prompts), wanted, strict=True):
        assert told(one) == [(pytest.approx(total, abs=1e-5), greedy) for total, greedy in told(other)]


def test_nothing_is_kept():
    model = routed_model("olmoe")
    model.likelihoods(prompts_of(model, 3))
    assert not model._states


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(ShapeError, match="at least one token"):
        shared_model("olmoe").likelihoods([Prompt((), ((3,),), (1.0,))])
