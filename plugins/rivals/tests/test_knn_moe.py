"""kNN-MoE as a plugin: what its memory holds, whom a layer looks up, and how far it trusts them."""

from dataclasses import replace

import pytest
import torch
from c3po_rivals.knn_moe import KNNMoE
from models.families.checks import model_of
from remixing.test_remixer import remixer
from routing.toys import HashEmbedder, questions

from c3po_adaptive.optimizers import KernelRegression
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.selectors.fixed import Fixed
from c3po_adaptive.testing import toy_problem


def with_memory(problem, keys, values):
    """The problem with a memory of its neighbours: keys ``[B, K, L, H]`` and values ``[B, K, L, E]``."""
    known = {"router input": keys}
    return replace(problem, of_neighbours=lambda artifact: known.get(artifact.name, values))


def by_hand(problem, keys, values, k):
    """The formula in loops."""
    omega = problem.own.clone()
    for b in range(omega.shape[0]):
        for layer in problem.selection.layers[b].nonzero().squeeze(1).tolist():
            query = problem.router_input[b, layer]
            cosines = [float(torch.cosine_similarity(query, key[layer], dim=0)) for key in keys[b]]
            near = sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]
            similar = [max(0.0, cosines[i]) for i in near]
            if sum(similar) == 0:
                continue
            value = sum(s * values[b, i, layer] for s, i in zip(similar, near, strict=True)) / sum(similar)
            value = value * (problem.selection.mask[b, layer] | (problem.own[b, layer] > 0))
            if value.sum() == 0:
                continue
            value = value * problem.own[b, layer].sum() / value.sum()
            share = sum(similar) / len(similar)
            omega[b, layer] = (1 - share) * problem.own[b, layer] + share * value
    return omega


@pytest.mark.parametrize("k", [1, 2, 3])
def test_is_the_papers_mixture_layer_by_layer(k):
    problem = toy_problem()
    draw = torch.Generator().manual_seed(1)
    keys = torch.randn(3, 3, 6, 8, generator=draw)
    problem = with_memory(problem, keys, problem.neighbour_pathways)
    expected = by_hand(problem, keys, problem.neighbour_pathways, k)
    torch.testing.assert_close(KNNMoE(k=k).optimize(problem), expected)
    assert not torch.equal(expected, problem.own)


def test_layers_may_look_up_different_references():
    problem = toy_problem()
    keys = torch.zeros(3, 3, 6, 8)
    for layer, nearest in ((4, 0), (5, 2)):
        keys[:, :, layer] = -problem.router_input[:, None, layer]
        keys[:, nearest, layer] = problem.router_input[:, layer]
    omega = KNNMoE(k=1).optimize(with_memory(problem, keys, problem.neighbour_pathways))
    for layer, nearest in ((4, 0), (5, 2)):
        only = torch.zeros(3, 3)
        only[:, nearest] = 1.0
        alone = replace(problem, neighbours=replace(problem.neighbours, weight=only))
        expected = KernelRegression(alpha=0).optimize(alone)
        torch.testing.assert_close(omega[:, layer], expected[:, layer])


def test_falls_back_to_the_router_where_nothing_matches():
    problem = toy_problem()
    against = -problem.router_input[:, None].expand(-1, 3, -1, -1)
    omega = KNNMoE().optimize(with_memory(problem, against, problem.neighbour_pathways))
    assert torch.equal(omega, problem.own)


def test_values_are_sparse_and_better_for_the_reference_itself():
    """Of a tiny model: as many experts as it uses, each layer's mass, and a lower loss of the right answers."""
    from c3po_adaptive.problem import ReferenceArtifact
    from c3po_adaptive.references.artifacts import of_references
    from c3po_adaptive.settings import DEFAULTS

    model, asked = model_of("olmoe"), questions(6)
    prompts, answers = [model.encode(q) for q in asked], [q.answer for q in asked]

    def known(artifact):
        return of_references(artifact, model, prompts, answers, model.prefill, DEFAULTS)

    value = known(KNNMoE(steps=20).value)
    own = known(ReferenceArtifact("own", lambda r: r.own))
    assert torch.equal((value > 0).sum(-1), (own > 0).sum(-1))
    torch.testing.assert_close(value.sum(-1), own.sum(-1))
    gained = known(ReferenceArtifact("gained", lambda r: r.loss(r.own) - r.loss(value[: len(r.own)])))
    assert (gained > 0).float().mean() > 0.5
    assert gained.mean() > 0


def test_memory_is_kept_with_the_set_whatever_k_is(tmp_path, monkeypatch):
    folder = build_reference_set(model_of("olmoe"), questions(24), HashEmbedder()).save(tmp_path / "set")
    model, run = model_of("olmoe"), []
    original = model.prefill
    monkeypatch.setattr(model, "prefill", lambda p, **o: [run.append(len(p)), original(p, **o)][1])

    def answered(**settings):
        run.clear()
        strategies = {"selector": Fixed(n=2, experts=6), "retriever": FaissKNN(k=9)}
        optimizer = KNNMoE(steps=2, **settings)
        c3po = remixer(model=model, references=ReferenceSet.load(folder), optimizer=optimizer, **strategies)
        return [a.scores for a in c3po.answer(questions(3, "t"))], sum(run) - 3

    first, prefilled = answered()
    assert prefilled > 3
    assert answered() == (first, 0)
    assert answered(k=1)[1] == 0


def test_costs_no_pass_of_the_model_once_the_memory_is_there():
    c3po = remixer(optimizer=KNNMoE(steps=2), selector=Fixed(n=2, experts=6))
    for answer in c3po.answer(questions(3, "t")):
        assert answer.cost.optimisation == answer.cost.references == 0
        assert answer.cost.embedding > 0
        assert answer.experts
