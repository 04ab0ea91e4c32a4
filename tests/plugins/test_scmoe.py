"""Self-contrast against its definition by full forwards, and its edges."""

import pytest
import torch
from plugins.rivals import FAMILIES, context_of, public_names_only, registry_with, token_logits, weighed

from c3po_adaptive.errors import ModelError, SettingError
from c3po_adaptive.testing import AnswererContract
from c3po_adaptive.testing.answerers import toy_questions

ASKED = toy_questions(4, "asked")


@pytest.fixture(scope="module")
def registry():
    return registry_with("scmoe.py")


class TestSCMoE(AnswererContract):
    @pytest.fixture
    def answerer(self, registry):
        return registry.create("answerer", "scmoe")


def answered(registry, family, **settings):
    context = context_of(family)
    return context, registry.create("answerer", {"name": "scmoe"} | settings).prepare(context).answer(ASKED)


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "mixtral"])
def test_is_the_contrast_of_two_full_forwards(registry, family, rank):
    context, answers = answered(registry, family, rank=rank)
    renormalized = family == "mixtral"

    def weak(layer, logits, weights):
        index = logits.argsort(-1, descending=True)[:, rank - 1 : rank]
        return index, weighed(logits, weights, index, renormalized)

    for prompt, answer in zip(context.prompts(ASKED), answers, strict=True):
        strong, other = (token_logits(context.model.model, prompt, choose) for choose in (None, weak))
        for c, option in enumerate(prompt.options):
            total = 0.0
            for z, w, token in zip(strong[c], other[c], option, strict=True):
                p, z, w = z.softmax(-1), z.log_softmax(-1), w.log_softmax(-1)
                among = (p >= 0.1 * p.max()).nonzero().squeeze(1).tolist()
                if token in among:
                    contrast = torch.stack([1.5 * z[t] - 0.5 * w[t] for t in among]).softmax(-1)
                    total += float((contrast[among.index(token)] * p[among].sum()).log())
                else:
                    total += float(z[token])
            assert answer.scores[c] == pytest.approx(total / prompt.lengths[c], abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_taken_off_is_the_base(registry, family):
    context, answers = answered(registry, family, beta=0.0)
    for answer, plain in zip(answers, context.plain(ASKED), strict=True):
        assert answer.scores == pytest.approx(plain.scores, abs=1e-4)
    _, contrasted = answered(registry, family)
    assert any(a.scores != pytest.approx(b.scores, abs=1e-3) for a, b in zip(contrasted, answers, strict=True))


def test_the_contrast_is_a_distribution_and_moves_plausible_tokens_only(registry):
    strategy = registry.create("answerer", "scmoe")
    strong, weak = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0)) * 3
    found = strategy.prepare(context_of("olmoe")).contrast(strong, weak)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(5))
    p = strong.softmax(-1)
    plausible = p >= 0.1 * p.max(-1, keepdim=True).values
    assert torch.equal(found[~plausible], strong.log_softmax(-1)[~plausible])
    for row in range(5):
        expected = (1.5 * strong - 0.5 * weak)[row][plausible[row]].argsort()
        assert torch.equal(found[row][plausible[row]].argsort(), expected), "in the paper's order"


def test_costs_one_pass_more_with_one_expert_a_layer(registry):
    context, answers = answered(registry, "mixtral")
    for answer, plain in zip(answers, context.plain(ASKED), strict=True):
        weak, own = answer.ledger.answer.forward, plain.ledger.prefill.forward
        assert weak.experts == own.experts / 2
        assert weak.linear == own.linear
        assert answer.cost.total == pytest.approx(plain.cost.total + weak.total)
        assert answer.seconds > 0


@pytest.mark.parametrize("setting", [{"alpha": 0}, {"alpha": 1.1}, {"beta": -1}, {"rank": 0}, {"rank": True}])
def test_settings_are_checked(registry, setting):
    with pytest.raises(SettingError, match="Expected scmoe"):
        registry.create("answerer", {"name": "scmoe"} | setting)


def test_what_a_model_does_not_have_is_refused(registry):
    with pytest.raises(SettingError, match="rank <= 8"):
        answered(registry, "olmoe", rank=9)
    with pytest.raises(ModelError, match="cannot be had for this family"):
        answered(registry, "deepseek_v3")


def test_uses_public_names_only():
    assert public_names_only("scmoe.py")
