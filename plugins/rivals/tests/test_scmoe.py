"""Self-contrast against its definition by full forwards, and its edges."""

import pytest
import torch
from c3po_rivals.scmoe import SCMoE
from full_forwards import ASKED, FAMILIES, answered, context_of, token_logits, weighed

from c3po_adaptive.errors import SettingError


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "mixtral"])
def test_is_the_contrast_of_two_full_forwards(family, rank):
    context, answers = answered(SCMoE(rank=rank), family)
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
def test_nothing_taken_off_is_the_base(family):
    context, answers = answered(SCMoE(beta=0.0), family)
    for answer, plain in zip(answers, context.plain(ASKED), strict=True):
        assert answer.scores == pytest.approx(plain.scores, abs=1e-4)
    _, contrasted = answered(SCMoE(), family)
    assert any(a.scores != pytest.approx(b.scores, abs=1e-3) for a, b in zip(contrasted, answers, strict=True))


def test_the_contrast_is_a_distribution_and_moves_plausible_tokens_only():
    strong, weak = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0)) * 3
    found = SCMoE().prepare(context_of("olmoe")).contrast(strong, weak)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(5))
    p = strong.softmax(-1)
    plausible = p >= 0.1 * p.max(-1, keepdim=True).values
    assert torch.equal(found[~plausible], strong.log_softmax(-1)[~plausible])
    for row in range(5):
        expected = (1.5 * strong - 0.5 * weak)[row][plausible[row]].argsort()
        assert torch.equal(found[row][plausible[row]].argsort(), expected), "in the paper's order"


def test_costs_one_pass_more_with_one_expert_a_layer():
    context, answers = answered(SCMoE(), "mixtral")
    for answer, plain in zip(answers, context.plain(ASKED), strict=True):
        weak, own = answer.ledger.answer.forward, plain.ledger.prefill.forward
        assert weak.experts == own.experts / 2
        assert weak.linear == own.linear
        assert answer.cost.total == pytest.approx(plain.cost.total + weak.total)
        assert answer.seconds > 0


def test_what_a_model_does_not_have_is_refused():
    with pytest.raises(SettingError, match="rank <= 8"):
        answered(SCMoE(rank=9), "olmoe")
