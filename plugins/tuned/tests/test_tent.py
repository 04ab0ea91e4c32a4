"""Entropy minimisation on the norms' scales, question by question."""

from dataclasses import replace

import pytest
import torch
from answerers.tuning import ASKED, Picture, context_of, scores
from c3po_tuned import Tent
from routing.naive import choice_scores

from c3po_adaptive.errors import SettingError
from c3po_adaptive.losses import entropy


def entropies(rows):
    return torch.stack([entropy(torch.tensor(row)[None])[0] for row in rows])


@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "deepseek"])
def test_it_lowers_the_entropy_of_every_question(family):
    context = context_of(family)
    before = Picture(context.model)
    answers = Tent(steps=3, lr=3e-3).prepare(context).answer(ASKED)
    assert (entropies(scores(answers)) < entropies([a.base_scores for a in answers])).all()
    assert Picture(context.model) == before


def test_a_step_is_adams_on_all_scales():
    """Written out on a model of its own: one step of Adam is the learning rate, against the gradient's sign."""
    context, model = context_of("olmoe"), context_of("olmoe").model.model
    (answer,) = Tent(lr=0.01).prepare(context).answer(ASKED[:1])
    (prompt,) = context.prompts(ASKED[:1])
    scales = {n: p for n, p in model.named_parameters() if "norm" in n}
    assert len(scales) == 3 * 4 + 1, "queries' and keys' norms, too"
    kept = {name: p.detach().clone() for name, p in scales.items()}
    try:
        for p in scales.values():
            p.requires_grad_()
        gradients = torch.autograd.grad(entropy(choice_scores(model, prompt)[None]).sum(), list(scales.values()))
        with torch.no_grad():
            for p, g in zip(scales.values(), gradients, strict=True):
                p -= 0.01 * g / (g.abs() + 1e-8)
            expected = choice_scores(model, prompt)
    finally:
        model.requires_grad_(False)
        for name, p in scales.items():
            p.data.copy_(kept[name])
    torch.testing.assert_close(torch.tensor(answer.scores), expected, atol=1e-3, rtol=0)


def test_no_step_is_the_plain_answer():
    context = context_of()
    assert scores(Tent(steps=0).prepare(context).answer(ASKED)) == scores(context.plain(ASKED))


def test_model_is_as_it_was_after_an_exception(monkeypatch):
    context = context_of()
    before, answerer = Picture(context.model), Tent().prepare(context)

    def failing(**given):
        raise KeyboardInterrupt

    monkeypatch.setattr("c3po_tuned.tent.Categorical", failing)
    with pytest.raises(KeyboardInterrupt):
        answerer.answer(ASKED)
    assert Picture(context.model) == before


def test_it_needs_no_references_and_costs_its_steps():
    context = replace(context_of(), build_references=lambda: None)
    one, three = (Tent(steps=n).prepare(context).answer(ASKED)[0] for n in (1, 3))
    assert one.cost.answer == pytest.approx(one.base_flops)
    assert 2 * one.base_flops < one.cost.optimisation < 2.6 * one.base_flops, "forward, and backward"
    assert three.cost.optimisation == pytest.approx(3 * one.cost.optimisation)
    assert one.setup_flops == 0
    assert one.parameters == 3 * (2 * 32 + 32 + 16) + 32


@pytest.mark.parametrize(("make", "said"), [(lambda: Tent(steps=-1), "tent.steps"), (lambda: Tent(lr=0), "tent.lr")])
def test_parameters_that_have_no_meaning(make, said):
    with pytest.raises(SettingError, match=f"Expected {said} to be"):
        make()
