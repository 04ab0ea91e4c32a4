"""Routing Manifold Alignment: the loss of its paper, from full forwards; without its terms, router tuning."""

from dataclasses import replace

import pytest
import torch
from answerers.tuning import ASKED, Picture, context_of, learned, scores
from c3po_rivals.roma import RoMA
from c3po_tuned import RouterTuning, Training
from c3po_tuned.base import FLOPS, _labeled

from c3po_adaptive.errors import SettingError
from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.retrievers import FaissKNN, RandomNeighbours
from c3po_adaptive.tasks.formats import description

QUICK = RoMA(warmup=0, lr=1e-2, epochs=2, layers="all")


def near(context, **others):
    return replace(context, strategies=replace(context.strategies, **others))


def training_of(strategy, context):
    """One with its routers moved a little, so that r is not the untrained model's."""
    known = _labeled(context, strategy.name)
    tuning = strategy.tuning(context.model, [])
    training = Training(strategy, context, tuning, known[:12], known[12:])
    lesson = strategy.lesson(training)
    for number, p in enumerate(tuning.parameters.values()):
        p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(number))
    return training, lesson


def routing(context, prompt, layers):
    """``[n, E]`` the routers' softmax at a prompt's last token, by one full forward."""
    model, found = context.model.model, []
    blocks = [layer.mlp for layer in model.get_decoder().layers]
    handles = [
        block.experts.register_forward_pre_hook(lambda m, args, b=blocks[i]: found.append(args[0] @ b.gate.weight.T))
        for i, block in enumerate(blocks)
        if i in layers
    ]
    model(torch.tensor([list(prompt.ids)]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack([logits[-1].softmax(-1) for logits in found])


@pytest.mark.parametrize("family", ["olmoe", "mixtral"])
@pytest.mark.parametrize("layers", ["all", (1, 2)])
def test_what_a_step_lowers_is_the_paper_s_equation_9(family, layers):
    context = near(context_of(family), retriever=FaissKNN(k=3), kernel=Gaussian(length_scale=0.4))
    training, lesson = training_of(replace(QUICK, alignment=0.7, layers=layers), context)
    part, acting = training.learned_from[:5], (0, 1, 2) if layers == "all" else layers
    loss, _ = lesson(part, 3)
    loss.backward()
    ours = [p.grad.clone() for p in training.tuning.parameters.values()]

    right = {q.id: bool(c) for q, c in zip(context.references.questions, context.references.correct, strict=True)}
    known = [one for one in training.learned_from if right[one.question.id]]
    texts = [torch.tensor(context.embedder.encode([description(one.question)])[0]) for one in known]
    expected = training.loss(part)
    for one in part:
        text = torch.tensor(context.embedder.encode([description(one.question)])[0])
        others = [(float(text @ t), t, k) for t, k in zip(texts, known, strict=True) if k != one and text @ t <= 0.95]
        nearest = sorted(others, key=lambda found: -found[0])[:3]
        similar = torch.tensor([(-(text - t).square().sum() / (2 * 0.4**2)).exp() for _, t, _ in nearest])
        with training.tuning.placed():
            own = routing(context, one.prompt, acting)
        for share, (_, _, neighbour) in zip(similar / similar.sum(), nearest, strict=True):
            target = routing(context, neighbour.prompt, acting).detach()
            expected = expected + 0.7 / len(part) * share * (own - target).square().sum()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for p in training.tuning.parameters.values():
        p.grad = None
    expected.backward()
    for p, found in zip(training.tuning.parameters.values(), ours, strict=True):
        assert torch.allclose(found, p.grad, atol=1e-5)
        assert found.any()


@pytest.mark.parametrize("family", ["gpt_oss", "deepseek_v3"])
def test_what_is_aligned_is_what_routers_make_of_every_expert(family):
    """Of families that score by sigmoid, or choose by a bias, too."""
    context = context_of(family)
    training, lesson = training_of(QUICK, context)
    right = dict(zip((q.id for q in context.references.questions), context.references.correct, strict=True))
    states = context.model.prefill([one.prompt for one in training.learned_from if right[one.question.id]])
    assert torch.allclose(lesson.targets, torch.stack([state.router for state in states]), atol=1e-5)


def test_without_alignment_decay_and_warm_up_it_is_router_tuning():
    same = {"lr": 1e-2, "epochs": 2, "batch": 4, "patience": 1, "layers": "all"}
    found = []
    for strategy in (RouterTuning(**same), RoMA(alignment=0, weight_decay=0, warmup=0, **same)):
        context = context_of("qwen2_moe")
        answers = strategy.prepare(context).answer(ASKED)
        found.append((learned(context), scores(answers), answers[0].setup_flops))
    (one, answers, once), (other, others, again) = found
    assert one.keys() == other.keys() > {FLOPS}
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (answers, once) == (others, again)
    assert answers != scores(context.plain(ASKED))


@pytest.mark.parametrize("other", [{"alignment": 0.1}, {"weight_decay": 0.9}, {"warmup": 9}], ids=str)
def test_each_of_its_parameters_has_a_part(other):
    found = []
    for strategy in (QUICK, replace(QUICK, **other)):
        context = context_of("qwen2_moe")
        found.append(scores(strategy.prepare(context).answer(ASKED)))
    assert found[0] != found[1]


def test_the_warm_up_is_of_the_rate_and_of_the_alignment():
    strategy = replace(QUICK, warmup=4, alignment=100.0)
    assert [strategy.rate(step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    training, lesson = training_of(strategy, context_of())
    part = training.learned_from[:4]
    plain = training.loss(part).item()
    costs = [lesson(part, step)[0].item() - plain for step in (0, 1, 9)]
    assert costs[1:] == pytest.approx([2 * costs[0], 4 * costs[0]], rel=1e-3)
    assert costs[0] > 0.01


def test_neighbours_are_the_arm_s_and_none_is_held_back_or_asked():
    context = near(context_of(), retriever=FaissKNN(k=99))
    context = replace(context, held_out=frozenset(q.id for q in context.references.questions[:4]))
    training, lesson = training_of(QUICK, context)
    right = {q.id for q, c in zip(context.references.questions, context.references.correct, strict=True) if c}
    may = right & {one.question.id for one in training.learned_from}
    assert len(lesson.targets) == len(may) < len(right)
    index, share = lesson.near[training.learned_from[0].question.id]
    assert int(index.max()) < len(may)
    assert float(share.sum()) == pytest.approx(1)
    costs = []
    for retriever in (FaissKNN(k=1), RandomNeighbours(k=1)):
        training, lesson = training_of(QUICK, near(context_of(), retriever=retriever))
        costs.append(lesson(training.learned_from, 0)[0].item())
    assert costs[0] != costs[1]


def test_the_model_is_as_it_was_and_reading_neighbours_has_its_price():
    context = context_of()
    before = Picture(context.model)
    dear = QUICK.prepare(context).answer(ASKED)[0].setup_flops
    assert Picture(context.model) == before
    cheap = replace(QUICK, alignment=0).prepare(context_of()).answer(ASKED)[0].setup_flops
    training, lesson = training_of(QUICK, context)
    right = {q.id for q, c in zip(context.references.questions, context.references.correct, strict=True) if c}
    read = [one.prompt for one in training.learned_from if one.question.id in right]
    assert lesson.once == pytest.approx(sum(context.model.plain_work(prompt).flops for prompt in read), rel=0.01)
    assert cheap + lesson.once / 2 < dear


def test_references_of_which_none_is_right_are_refused():
    context = context_of()
    references = context.references
    one = int(references.correct.nonzero()[0])  # a set has one at least; it is asked
    correct = torch.zeros_like(references.correct).index_fill(0, torch.tensor([one]), True)
    context = replace(
        context,
        held_out=frozenset({references.questions[one].id}),
        build_references=lambda: replace(references, correct=correct),
    )
    with pytest.raises(SettingError, match=r"roma expected references that the model answers right among the 15"):
        QUICK.prepare(context)
