"""Whether to re-mix at all: by a given threshold, and by one that is calibrated on references."""

from dataclasses import dataclass, replace

import pytest
import torch
from c3po_research.abstain import Abstain, calibrated
from c3po_research.agreement import CrossFitted
from c3po_research.learned_layers import Learned
from remixing.test_remixer import TEST, remixer
from routing.naive import FAMILIES
from test_api import CHOICES, TEXTS, optimizer

from c3po_adaptive import Attribution
from c3po_adaptive.errors import SettingError
from c3po_adaptive.selectors import Fixed, Gradient
from c3po_adaptive.testing import ToyTraining, altered, toy_problem


@pytest.fixture
def problem():
    return toy_problem(selected=None)


class TestAbstention:
    def test_by_a_given_threshold(self, problem):
        strength = Abstain(selector=Fixed(n=2, experts=6), threshold=0).strength(problem, None)
        level = strength.sort().values[1].item()
        selection = Abstain(selector=Fixed(n=2, experts=6), threshold=level).select(problem)
        assert torch.equal(selection.layers.any(-1), strength > level)
        assert selection.layers.any(-1).sum() == 1

    def test_decrease_of_losses_of_either_sign(self, problem):
        """A loss that is lower by a constant falls by as much."""

        def lowered(problem):
            return replace(
                problem,
                loss=lambda *weights: problem.loss(*weights) - 5,
                within=lambda selection: lowered(problem.within(selection)),
            )

        selector = Abstain(selector=Gradient(n=2, experts=6), signal="decrease", threshold=0)
        plain, low = (selector.select(p).strength for p in (problem, lowered(problem)))
        assert (plain > 0).all()
        torch.testing.assert_close(low, plain, atol=1e-5, rtol=0)

    @pytest.mark.parametrize(("strength", "gain", "harm", "threshold"), [
        ([1, 2, 3, 4], [-1, 0, 1, 1], None, 2),  # the two highest win, the next changes nothing
        ([1, 2, 3, 4], [1, -1, 1, 0], None, 2),
        ([1, 2, 3, 4], [1, 1, -1, 1], None, -torch.inf),  # all of them: two more right
        ([1, 2, 3, 4], [-1, -1, -1, -1], None, torch.inf),  # never
        ([1, 2, 3, 4], [0, 0, 0, 0], None, torch.inf),
        ([1, 2, 3, 4], [1, 1, 1, -1], 0.3, torch.inf),  # any re-mixing begins with the one that does harm
        ([1, 2, 3, 4], [1, -1, 1, 0], 0.25, 2),  # (0 + 1) / 5 is within, (1 + 1) / 5 is not
        ([2, 2, 2, 1], [1, -1, 1, -1], None, 1),  # equal signals stand or fall together
    ])  # fmt: skip
    def test_calibration(self, strength, gain, harm, threshold):
        assert calibrated(torch.tensor(strength).float(), torch.tensor(gain), harm) == threshold

    def test_calibrated_on_right_and_wrong(self):
        """Where re-mixing only ever breaks right answers, nothing is re-mixed."""
        seen = []

        def harmful(problem):
            def scores(weights, running=None):
                moved = ((weights - problem.own).abs().sum((1, 2)) > 0).float()
                return torch.nn.functional.one_hot((problem.answers + moved.long()) % 3, 3).float()

            seen.append(problem)
            return altered(
                problem,
                scores=scores,
                own_scores=scores(problem.own),
                answered=lambda weights: scores(weights).argmax(-1),
            )

        selector = Abstain(selector=Fixed(n=2, experts=6), training=50).prepare(ToyTraining(made=harmful))
        assert selector.learned["threshold"] == torch.inf
        assert sum(len(p.own) for p in seen) == 50
        assert not selector.select(toy_problem(selected=None)).mask.any()

    def test_prepares_what_it_wraps(self):
        inner = Learned(n=2, experts=6, training=32)
        selector = Abstain(selector=inner, signal="benefit", training=50).prepare(ToyTraining())
        assert selector.selector.learned is not None

    def test_benefit_is_what_the_wrapped_one_predicts(self):
        inner, problem = CrossFitted(n=2, level=0.5), toy_problem(selected=None)
        predicted = inner.select(problem).strength
        outer = Abstain(selector=inner, signal="benefit", threshold=float(predicted.mean())).select(problem)
        assert torch.equal(outer.strength, predicted)
        assert torch.equal(
            outer.mask.any((1, 2)), inner.select(problem).mask.any((1, 2)) & (predicted > predicted.mean())
        )

    @pytest.mark.parametrize(("setting", "message"), [
        ({"signal": "mood"}, "signal to be one of 'uncertainty', .*got 'mood'; choose one of these"),
        ({"training": 10}, "needs 50 references at least|training to be a whole number >= 50, got 10; a calibration"),
        ({"threshold": torch.nan}, "threshold"),
        ({"harm": 0}, "harm to be a finite number > 0"),
    ], ids=str)  # fmt: skip
    def test_settings_are_checked(self, setting, message):
        with pytest.raises(SettingError, match=message):
            Abstain(**setting)

    def test_parts_are_strategies(self):
        with pytest.raises(SettingError, match=r"abstain\.selector to be a LayerSelector, got 'gradient'; names are"):
            Abstain(selector="gradient")

    def test_models_are_refused_beforehand(self):
        with pytest.raises(SettingError, match="at most 6 layers"):
            Abstain(selector=Gradient(n=7)).fits(tuple(range(6)), 24)

    def test_must_be_calibrated_first(self, problem):
        with pytest.raises(SettingError, match="references to calibrate on first"):
            Abstain(selector=Fixed(n=2, experts=6)).select(problem)
        with pytest.raises(SettingError, match="a selector with scores"):
            Abstain(selector=Fixed(n=2, experts=6), signal="benefit", threshold=0.1).select(problem)

    @pytest.mark.parametrize("signal", ["uncertainty", "similarity", "agreement"])
    def test_what_is_left_alone_is_not_looked_at(self, problem, signal):
        """Where the signal is known beforehand, the wrapped selector runs nothing for those that stay as they are."""
        ran = []

        def loss(weights, running=None):
            ran.append(torch.ones(3, dtype=torch.bool) if running is None else running)
            return problem.loss(weights, running)

        watched = altered(problem, loss=loss)
        selector = Abstain(selector=Gradient(n=2, experts=6), signal=signal, threshold=0)
        level = selector.strength(problem, None).sort().values[1].item()
        selection = replace(selector, threshold=level).select(watched)
        going = selector.strength(problem, None) > level
        assert ran
        assert all(torch.equal(r, going) for r in ran)
        assert torch.equal(selection.layers.any(-1), going)
        torch.testing.assert_close(selection.strength, selector.strength(problem, None))

    def test_harm_that_cannot_be_bounded_says_what_it_needs(self):
        with pytest.raises(SettingError, match=r"training of at least 99 references for harm=0\.01, got 50"):
            Abstain(training=50, harm=0.01)
        Abstain(training=99, harm=0.01)
        with pytest.raises(SettingError, match="a threshold, or a bound on harm to calibrate it by, got both"):
            Abstain(threshold=0.1, harm=0.1)

    def test_practises_on_others_than_what_it_wraps(self):
        drawn = []

        @dataclass(frozen=True)
        class Watched(ToyTraining):
            def problems(self, n, skip=0):
                drawn.append(range(skip, skip + n))
                return super().problems(n, skip)

        Abstain(selector=Learned(n=2, experts=6, training=40), training=50).prepare(Watched())
        learned, calibrated_on = drawn
        assert not set(learned) & set(calibrated_on)

    def test_raw_text_has_no_choices_to_be_sure_of(self, problem):
        raw = altered(problem, own_scores=torch.zeros(3, 0))
        with pytest.raises(SettingError, match="got raw text; give choices"):
            Abstain(selector=Fixed(n=2, experts=6), threshold=0).select(raw)


class TestInARun:
    @pytest.mark.parametrize("wrapped", [Gradient(n=1, experts=6), Attribution(n=1, experts=6, of="margin")])
    def test_batch_equals_one_by_one_where_some_are_left_alone(self, wrapped):
        """Of samples asked alone one or the other has no tail to run at all, nor a gradient."""
        surest = remixer(selector=Abstain(selector=wrapped, threshold=-1.0)).answer(TEST)
        level = sorted(a.strength for a in surest)[2]
        for threshold, going in ((level, 2), (max(a.strength for a in surest), 0)):
            run = remixer(selector=Abstain(selector=wrapped, threshold=threshold))
            together = run.answer(TEST)
            assert sum(bool(a.layers) for a in together) == going
            for question, answer in zip(TEST, together, strict=True):
                (alone,) = run.answer([question])
                torch.testing.assert_close(answer.pathway.weights, alone.pathway.weights, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_question_that_is_left_alone_costs_one_forward(self, family):
        """Beside others in the batch that are not."""
        inner = Gradient(n=2, experts=6)
        plain = remixer(family, selector=Abstain(selector=inner, threshold=-1))
        level = sorted(a.strength for a in plain.answer(TEST))[2]
        for a in remixer(family, selector=Abstain(selector=inner, threshold=level)).answer(TEST):
            spent = [a.cost.references, a.cost.attribution, a.cost.optimisation, a.cost.answer]
            if a.strength > level:
                assert all(x > 0 for x in spent)
            else:
                assert spent == [0, 0, 0, 0]
                assert a.scores == a.base_scores
                assert a.cost.total == a.cost.prefill + a.cost.embedding

    def test_an_explanation_says_why(self):
        unsure = Abstain(selector=Gradient(n=2, experts=6), threshold=2)
        found = optimizer(selector=unsure).explain(TEXTS[0], CHOICES[0])
        assert found.strength[0] < found.strength[1] == 2
        assert f"left alone: what speaks for it, {found.strength[0]:.3g}, is not above 2" in str(found)
        never = replace(found, strength=(found.strength[0], float("inf")))
        assert "re-mixing won at no threshold" in str(never)
