"""Expert-Sample against full forwards with the same noise, where nothing is left to chance, and its choice."""

from dataclasses import replace

import pytest
import torch
from c3po_rivals.expert_sample import ExpertSample, _gumbel
from full_forwards import ASKED, FAMILIES, answered, scores_of, weighed

from c3po_adaptive.errors import DataError, SettingError


@pytest.mark.parametrize(("family", "kept", "ranks"), [("olmoe", 1, 5), ("mixtral", 0, 8), ("qwen2_moe", 1, 3)])
def test_a_sample_is_a_full_forward_whose_tail_draws_all_but_the_kept(family, kept, ranks):
    context, answers = answered(ExpertSample(samples=1, kept=kept, ranks=ranks, temperature=0.7), family)
    for question, prompt, answer in zip(ASKED, context.prompts(ASKED), answers, strict=True):
        noise, last = _gumbel(context.generator(question), prompt, 3, 8), len(prompt.ids) - 1

        def drawn(layer, logits, weights, noise=noise, last=last):
            index = logits.topk(2).indices
            for t in range(last, min(len(logits), last + len(noise))):
                order = logits[t].argsort(descending=True).tolist()
                at = {e: float(logits[t, e] / 0.7 + noise[t - last, layer, e]) for e in order[kept:ranks]}
                index[t] = torch.tensor(order[:kept] + sorted(at, key=lambda e: -at[e])[: 2 - kept])
            return index, weighed(logits, weights, index, family == "mixtral")

        assert answer.scores == pytest.approx(scores_of(context.model.model, prompt, drawn), abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settled", [{"temperature": 0}, {"kept": 2}, {"ranks": 2}], ids=str)
def test_where_nothing_is_left_to_chance_it_is_the_base(family, settled):
    context, answers = answered(ExpertSample(**settled), family)
    plain = context.plain(ASKED)
    assert [(a.scores, a.cost.total) for a in answers] == [(a.scores, a.cost.total) for a in plain]


def test_a_low_temperature_is_nearly_the_base_and_a_high_one_is_not():
    context, cold = answered(ExpertSample(samples=2, temperature=1e-6), "olmoe")
    _, hot = answered(ExpertSample(samples=2, temperature=100.0), "olmoe")
    for plain, one, other in zip(context.plain(ASKED), cold, hot, strict=True):
        assert one.scores == pytest.approx(plain.scores, abs=1e-4)
        assert other.scores != pytest.approx(plain.scores, abs=1e-4)


def test_the_sample_is_chosen_by_confidence_or_declared_by_the_label():
    context, by_confidence = answered(ExpertSample(samples=6, kept=0), "olmoe")
    upper = ExpertSample(samples=6, kept=0, choose="label").prepare(context)
    assert upper.needs_label
    assert not ExpertSample().prepare(context).needs_label
    by_label = upper.answer(ASKED)
    alone = [ExpertSample(samples=n, kept=0, choose="label").prepare(context).answer(ASKED) for n in range(1, 7)]

    def entropy(answer):
        return float(torch.distributions.Categorical(logits=torch.tensor(answer.scores)).entropy())

    for n, (question, chosen, best) in enumerate(zip(ASKED, by_confidence, by_label, strict=True)):
        assert entropy(chosen) <= entropy(best) + 1e-6
        solved = [answers[n].choice == question.answer for answers in alone]
        assert solved == sorted(solved), "pass@n does not fall with n"
        assert (best.choice == question.answer) == solved[-1]
    with pytest.raises(DataError, match="expert-sample expected the label of question 'asked0'"):
        upper.answer([replace(ASKED[0], answer=None)])


def test_as_it_comes_it_keeps_five_of_eight_and_draws_from_four_times_as_many():
    """The tiny model mixes two of eight."""
    found = [answered(one, "olmoe")[1] for one in (ExpertSample(samples=2), ExpertSample(samples=2, kept=1, ranks=8))]
    assert [a.scores for a in found[0]] == [a.scores for a in found[1]]


def test_costs_its_tail_once_a_sample_and_is_the_seed_s():
    costs = [answered(ExpertSample(samples=n), "olmoe")[1][0].cost for n in (1, 4)]
    assert costs[1].answer == pytest.approx(4 * costs[0].answer)
    assert costs[0].prefill == costs[1].prefill > costs[0].answer
    one, again, other = ([a.scores for a in answered(ExpertSample(samples=2), "olmoe", seed=s)[1]] for s in (0, 0, 1))
    assert one == again != other


@pytest.mark.parametrize("wrong", [{"kept": 3}, {"ranks": 1}])
def test_more_kept_or_fewer_ranked_than_are_mixed(wrong):
    with pytest.raises(SettingError, match=r"kept <= 2 <= expert-sample\.ranks.*got kept"):
        answered(ExpertSample(**wrong), "olmoe")


def test_more_ranks_than_experts():
    with pytest.raises(SettingError, match="ranks <= 8, the model's experts, got 9"):
        answered(ExpertSample(ranks=9), "olmoe")
