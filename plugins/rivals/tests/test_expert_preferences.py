"""Expert preference optimization: the loss of its paper, from full forwards; the last router alone; and its edges."""

from dataclasses import replace

import pytest
import torch
from answerers.tuning import ASKED, Picture, context_of, learned, scores
from c3po_rivals.expert_preferences import ExpertPreferences, _gumbel
from c3po_tuned import Training
from c3po_tuned.base import FLOPS, LOSSES, _labeled
from full_forwards import rerouted, weighed

from c3po_adaptive.errors import ModelError

QUICK = ExpertPreferences(routes=4, lr=1e-2, epochs=2)


def training_of(strategy, context):
    """One whose router has moved a little, so that π_θ is not π_ref."""
    known = _labeled(context, strategy.name)
    tuning = strategy.tuning(context.model, [])
    training = Training(strategy, context, tuning, known[:12], known[12:])
    lesson = strategy.lesson(training)
    (router,) = tuning.parameters.values()
    router.data += 0.3 * torch.randn(router.shape, generator=torch.Generator().manual_seed(1))
    return training, lesson, router


def lost(model, one, choose):
    """Cross-entropy of each token of the right option, by one full forward."""
    option = one.prompt.options[one.answer]
    with rerouted(model, choose):
        logits = model(torch.tensor([list(one.prompt.ids + option)]), use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(
        logits[len(one.prompt.ids) - 1 : -1], torch.tensor(option), reduction="none"
    )


@pytest.mark.parametrize("family", ["olmoe", "mixtral"])
def test_what_a_step_lowers_is_the_paper_s_loss(family):
    context = context_of(family)
    model, gate = context.model.model, context.model.sites[-1].router
    training, lesson, router = training_of(replace(QUICK, hard=0.5), context)
    part, reference = training.learned_from[:4], gate.weight.detach().clone()
    loss, _ = lesson(part, 0)
    loss.backward()
    ours = router.grad.clone()

    generator, width = torch.Generator().manual_seed(0), max(len(one.prompt.options[one.answer]) for one in part)
    noise = [_gumbel(generator, (len(part), width, 8)) for _ in range(4)]
    each = []
    for b, one in enumerate(part):
        first, count, seen = len(one.prompt.ids) - 1, len(one.prompt.options[one.answer]), {}

        def along(drawn, first=first, count=count, seen=seen):
            def choose(layer, logits, weights):
                index = logits.topk(2).indices
                if layer == 2:
                    tail = slice(first, first + count)
                    if drawn is not None:
                        index[tail] = (logits[tail] + drawn[:count]).topk(2).indices
                    seen.update(index=index[tail])
                return index, weighed(logits, weights, index, family == "mixtral")

            return choose

        def entering(module, args, first=first, count=count, seen=seen):
            seen["x"] = args[0].detach()[first : first + count]

        handle = model.get_decoder().layers[2].mlp.experts.register_forward_pre_hook(entering)
        with training.tuning.placed(), torch.no_grad():
            plain = lost(model, one, along(None))
            own, x = seen["index"], seen["x"]
            routes = [(lost(model, one, along(drawn[b])), seen["index"]) for drawn in noise]
        handle.remove()
        for t in range(count):
            others = [
                (float(ce[t]), index[t]) for ce, index in routes if set(index[t].tolist()) != set(own[t].tolist())
            ]
            best, chosen = min(others, key=lambda route: route[0], default=(float("inf"), None))
            if plain[t] > 0.5 and best < plain[t]:
                log, before = (x[t] @ router.T).log_softmax(-1), (x[t] @ reference.T).log_softmax(-1)
                margin = (log - before)[chosen].sum() - (log - before)[own[t]].sum()
                each.append(-(float(plain[t]) - best) * torch.sigmoid(0.1 * margin).log())
    assert len(each) > 2
    expected = sum(each) / len(each)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-4)
    router.grad = None
    expected.backward()
    assert torch.allclose(ours, router.grad, atol=1e-4)
    assert ours.any()


def test_it_trains_the_last_router_alone_and_leaves_the_model_as_it_was():
    context = context_of()
    before, plain = Picture(context.model), scores(context.plain(ASKED))
    training, lesson, router = training_of(replace(QUICK, hard=0.0), context)
    assert [name.split(".")[2] for name in training.tuning.parameters] == ["2"]
    loss, _ = lesson(training.learned_from, 0)
    loss.backward()
    assert router.grad.any()
    assert Picture(context.model) == before
    assert scores(context.plain(ASKED)) == plain, "prompts that were kept, too"


def test_tokens_that_are_not_hard_teach_nothing():
    training, lesson, router = training_of(replace(QUICK, hard=1e9), context_of())
    loss, _ = lesson(training.learned_from, 0)
    loss.backward()
    assert loss.item() == 0
    assert router.grad is None or not router.grad.any()


def test_routers_that_take_no_rule_are_refused():
    with pytest.raises(ModelError, match="cannot be had for this family"):
        QUICK.prepare(context_of("deepseek_v3"))


def test_labels_the_seed_and_the_routes_have_a_part():
    found = {}
    for name, strategy, settings in (
        ("it", QUICK, {}),
        ("again", QUICK, {}),
        ("labels", QUICK, {"labels": "shuffled"}),
        ("seed", QUICK, {"seed": 1}),
        ("routes", replace(QUICK, routes=12), {}),
    ):
        context = context_of("mixtral", **settings)
        answers = strategy.prepare(context).answer(ASKED)
        found[name] = (learned(context)[LOSSES], float(learned(context)[FLOPS]))
        assert answers[0].setup_flops == found[name][1] > 0
        assert answers[0].parameters == 8 * 32
    assert torch.equal(found["it"][0], found["again"][0])
    assert not any(torch.equal(found["it"][0], found[name][0]) for name in ("labels", "seed", "routes"))
    assert found["routes"][1] > found["it"][1]
