"""Tails give what full forward passes give: logits, likelihoods and gradients."""

from dataclasses import replace

import pytest
import torch
from rounding import assert_near
from routing.naive import (
    FAMILIES,
    SCOPES,
    along,
    choice_scores,
    moved,
    routed_model,
    shared_model,
    tail_scores_of,
)

from c3po_adaptive.errors import SettingError, ShapeError
from c3po_adaptive.models.provenance import stack_pathways
from c3po_adaptive.routing.head import head, likelihoods
from c3po_adaptive.routing.prefill import prefill
from c3po_adaptive.routing.scores import acting_rows
from c3po_adaptive.routing.states import collate
from c3po_adaptive.routing.tail import tail_hidden
from c3po_adaptive.types import Pathway, Prompt, Question

QUESTIONS = [
    Question("a", "What floats?", ("wood", "a wooden boat", "wool", "x"), 1),
    Question("b", "Which of these objects sinks in deep water?", ("stone", "cork"), 0),
    Question("c", "Why?", ("because", "be", "so it is said"), 2),
]
ONE_TOKEN = Prompt((40,), options=((41, 42), (43,), (41, 44, 45)), lengths=(2.0, 1.0, 3.0))


@pytest.fixture(params=FAMILIES)
def model(request):
    return shared_model(request.param)


def prompts(model):
    return [model.encode(q) for q in QUESTIONS] + [ONE_TOKEN, model.encode_text("Boats float.")]


def pathway_of(state, model, **settings):
    return moved(Pathway(state.own, state.own, model.layers), **settings)


class TestPrefill:
    def test_likelihoods_are_those_of_full_forwards(self, model):
        for prompt, scores in zip(
            prompts(model)[:4], model.choice_scores(model.prefill(prompts(model)[:4])), strict=True
        ):
            with torch.no_grad():
                assert_near(scores, choice_scores(model.model, prompt))

    def test_first_dense_layers_keep_no_keys(self):
        model = routed_model("qwen2_moe", mlp_only_layers=[0])
        (state,) = model.prefill([model.encode(QUESTIONS[0])])
        assert len(state.cache) == len(state.entry) == 2

    def test_empty_prompt_is_refused(self, model):
        with pytest.raises(ShapeError, match="at least one token"):
            prefill(model.model, model.sites, [Prompt(())], model.flops, "tree")


class TestTail:
    @pytest.mark.parametrize("start", [0, 1, 2])
    def test_from_any_layer_own_routing_is_the_prefill(self, model, start):
        states = model.prefill(prompts(model)[:3])
        batch = collate(states)
        with torch.no_grad():
            hidden = tail_hidden(model.model, model.sites, batch, start).flatten(0, 1)
            scores = likelihoods(head(model.model, hidden[batch.predicting][None])[0], batch.at, batch.scored)
        assert_near(scores, torch.cat([s.token_scores for s in states]))

    @pytest.mark.parametrize("layers", [(0,), (2,), (0, 2), (0, 1, 2)])
    @pytest.mark.parametrize("scope", SCOPES)
    def test_changed_pathway_is_the_full_forward(self, model, layers, scope):
        states = model.prefill(prompts(model)[:4], scope=scope)
        pathways = [pathway_of(s, model, layers=layers, seed=i, scope=scope) for i, s in enumerate(states)]
        together = model.choice_scores(states, stack_pathways(pathways))
        for state, pathway, scores in zip(states, pathways, together, strict=True):
            edit = along(pathway.weights, pathway.own, len(state.prompt.ids) - 1, scope=scope)
            with torch.no_grad():
                expected = choice_scores(model.model, state.prompt, edit)
                assert (expected - choice_scores(model.model, state.prompt)).abs().max() > 1e-4
            assert_near(scores, expected)

    def test_scopes_differ_behind_the_first_answer_token_only(self, model):
        states = model.prefill([model.encode(QUESTIONS[2])])
        pathway = stack_pathways([pathway_of(states[0], model)])
        scores = {}
        for scope in ("last", "answer"):
            batch = collate(states)
            rows = acting_rows(batch, torch.zeros(1).long(), scope)
            assert (rows[0] >= 0).nonzero().tolist() == [[0]]
            assert (rows[1] >= 0).sum() == (0 if scope == "last" else batch.real.sum() - 1)
            (scores[scope],) = model.choice_scores(states, replace(pathway, scope=scope))
        assert (scores["last"] != scores["answer"]).all()

    def test_of_all_tokens_starts_from_whole_prompts(self, model):
        asked = [model.encode(QUESTIONS[2])]
        (tail,), (whole,) = model.prefill(asked), model.prefill(asked, scope="all")
        assert (tail.packed.past, whole.packed.past) == (len(asked[0].ids) - 1, 0)
        torch.testing.assert_close(whole.own, tail.own, atol=1e-5, rtol=0)
        torch.testing.assert_close(whole.token_scores, tail.token_scores, atol=1e-4, rtol=0)
        assert tail.work.flops < whole.work.flops == pytest.approx(tail.work.flops, rel=0.1)  # no triangle in a mask
        pathway = stack_pathways([pathway_of(tail, model, scope="all")])
        with pytest.raises(SettingError, match="whole prompts for scope 'all', got tails"):
            model.choice_scores([tail], pathway)

    def test_top_k_mixes_the_largest_at_every_acting_token(self, model):
        (state,) = model.prefill([model.encode(QUESTIONS[2])])
        pathway = pathway_of(state, model, layers=(1,), top_k=2)
        last = len(state.prompt.ids) - 1
        everything = along(pathway.weights, pathway.own, last)

        def edit(layer, routing):
            new = everything(layer, routing)
            if layer != 1:
                return new
            best = new.topk(2, -1)
            cut = torch.zeros_like(new).scatter(1, best.indices, best.values)
            return torch.cat([new[:last], (cut * new.sum(1, True) / cut.sum(1, True))[last:]])

        with torch.no_grad():
            expected = choice_scores(model.model, state.prompt, edit)
        assert_near(model.choice_scores([state], stack_pathways([pathway]))[0], expected)

    def test_cache_does_not_grow(self, model):
        states = model.prefill(prompts(model)[:2])
        batch = collate(states)
        before = [{name: t.clone() for name, t in kept.tensors.items()} for kept in batch.cache]
        with torch.no_grad():
            first, second = (tail_hidden(model.model, model.sites, batch, 1) for _ in range(2))
        assert torch.equal(first, second)
        for kept, old in zip(batch.cache, before, strict=True):
            assert kept.tensors.keys() == old.keys()
            assert all(torch.equal(tensor, old[name]) for name, tensor in kept.tensors.items())


class TestGradients:
    @pytest.mark.parametrize("scope", SCOPES)
    @pytest.mark.parametrize("transfer", ["replace", "shift"])
    def test_are_those_of_full_forwards(self, model, scope, transfer):
        """Two samples' ω in two questions that are not theirs, with left padding."""
        own = torch.stack([s.own for s in model.prefill([model.encode_text(t) for t in ("Fish swim", "Sand")])])
        weights = moved(Pathway(own, own, model.layers)).weights.requires_grad_()
        states = model.prefill([model.encode(QUESTIONS[1]), model.encode(QUESTIONS[2])], scope=scope)
        active = torch.tensor([[False, True, True]]).expand(2, -1)
        sample = torch.tensor([1, 0])
        scores = tail_scores_of(model, states, sample, own, active, torch.ones_like(own).bool(), scope, transfer)(
            weights
        )
        expected = [
            choice_scores(
                model.model,
                s.prompt,
                along(weights[b], own[b], len(s.prompt.ids) - 1, scope=scope, transfer=transfer),
            )
            for s, b in zip(states, sample.tolist(), strict=True)
        ]
        for row, full in zip(scores, expected, strict=True):
            assert_near(row[: len(full)], full)
            assert (row[len(full) :] == -torch.inf).all()
        (gradient,) = torch.autograd.grad(
            sum(r[: len(f)].sum() for r, f in zip(scores, expected, strict=True)), weights
        )
        (full_gradient,) = torch.autograd.grad(sum(e.sum() for e in expected), weights)
        assert (full_gradient[:, 1:].abs() > 0).any()
        torch.testing.assert_close(gradient, full_gradient, atol=1e-4, rtol=1e-4)

    def test_reach_unused_experts_from_the_start(self, model):
        (state,) = model.prefill([model.encode(QUESTIONS[0])])
        own = state.own[None]
        weights = own.clone().requires_grad_()
        support = torch.zeros_like(own, dtype=torch.bool)
        support[:, 2, :] = True
        tail = tail_scores_of(model, [state], torch.zeros(1).long(), own, support.any(-1), support)
        (gradient,) = torch.autograd.grad(tail(weights)[0, 1], weights)
        assert (gradient[0, 2] != 0).all()
        assert (gradient[0, :2] == 0).all()
