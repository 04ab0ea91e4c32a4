"""Calibrations: what they find where it was planted, what they never look at, and what they take."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from c3po_baselines import PMI, Contextual, InContext, KnnLabel, LengthExponent, SurfaceLogit
from c3po_baselines.calibrations import ScoredQuestion, _AgainstPrior
from c3po_baselines.surface_logit import FEATURES
from contexts import accuracy, context_of, longest, made, references, with_digit
from own_plugin import Practised
from routing.naive import choice_scores
from scipy.special import log_softmax, softmax

from c3po_adaptive import AnswererStrategy, Remix
from c3po_adaptive.errors import SettingError
from c3po_adaptive.registry import default_registry
from c3po_adaptive.tasks.formats import Letter, Rendered, encode
from c3po_adaptive.testing import AnswererContract, toy_context
from c3po_adaptive.testing.answerers import toy_questions
from c3po_adaptive.types import Prompt, Question

FITTED, LABEL_FREE = (LengthExponent, SurfaceLogit), (PMI, Contextual)
ASKED = made(30, "asked", longest)
NGD = {"optimizer": {"name": "ngd", "steps": 2, "lr": 0.1}}


class TestOneAroundAnother(AnswererContract):
    """Each alone, as it comes, keeps it in ``tests/testing/test_findings.py``."""

    @pytest.fixture
    def answerer(self):
        return LengthExponent(InContext())


@pytest.mark.parametrize("strategy", [*FITTED, *LABEL_FREE])
@pytest.mark.parametrize("strategies", [{}, NGD], ids=["base", "ngd"])
def test_scores_are_log_probabilities_of_what_the_arm_answered(strategy, strategies):
    context, asked = context_of(references(longest, 20), strategies), ASKED[:6]
    arm, found = (answerer.prepare(context).answer(asked) for answerer in (Remix(), strategy()))
    for plain, answer in zip(arm, found, strict=True):
        assert sum(map(math.exp, answer.scores)) == pytest.approx(1)
        assert answer.scores != pytest.approx(log_softmax(plain.scores), abs=1e-4)
        for same in ("base_scores", "layers", "neighbours", "base_flops"):
            assert getattr(answer, same) == getattr(plain, same)
        assert answer.choice == int(np.argmax(answer.scores))


class TestPlanted:
    def test_a_length_exponent_is_found_again(self):
        """Labels drawn by Σ log p / length^0.6, scaled by 1.5."""
        drawn, known, answers = np.random.default_rng(0), [], []
        for i in range(3000):
            options = tuple((0,) * n for n in drawn.integers(1, 12, 4))
            lengths = np.array([len(option) for option in options], float)
            sums = -drawn.gamma(2, 1, 4) * lengths
            asked = ScoredQuestion(
                Question(str(i), "?", ("",) * 4), Prompt((0,), options, tuple(lengths)), sums / lengths
            )
            known.append(asked)
            answers.append(drawn.choice(4, p=softmax(1.5 * sums / lengths**0.6)))
        found = LengthExponent().fit(known, np.array(answers))
        assert found.exponent == pytest.approx(0.6, abs=0.1)
        assert found.scale == pytest.approx(1.5, rel=0.2)

    def test_a_bias_to_long_answers(self):
        context = context_of(references(longest))
        base, found = (answerer.prepare(context).answer(ASKED) for answerer in (Remix(), LengthExponent()))
        assert accuracy(base, ASKED) < 0.5
        assert accuracy(found, ASKED) > 0.7

    @pytest.mark.parametrize("right", [longest, with_digit])
    def test_a_feature_of_the_surface(self, right):
        asked, context = made(40, "asked", right), context_of(references(right))
        base, found = (answerer.prepare(context).answer(asked) for answerer in (Remix(), SurfaceLogit()))
        assert accuracy(base, asked) < 0.6
        assert accuracy(found, asked) > 0.75

    def test_repeated_references_lie_in_one_fold(self):
        """Else the penalty is chosen by what the fit has seen, and noise is fitted as closely as can be."""
        drawn, known = np.random.default_rng(1), []
        for asked in made(24, "noise", longest):
            options = tuple((0,) * len(text) for text in asked.choices)
            known.append(ScoredQuestion(asked, Prompt((0,), options, (1.0,) * 4), drawn.normal(size=4)))
        labels = drawn.integers(0, 4, 24)
        once, often = (SurfaceLogit().fit(known * n, np.tile(labels, n)).weights[1:] for n in (1, 6))
        assert np.linalg.norm(often) < 3 * np.linalg.norm(once)

    @pytest.mark.parametrize("of", [Remix(), InContext()], ids=lambda a: a.name)
    @pytest.mark.parametrize("strategy", FITTED)
    def test_right_choices_become_likelier(self, strategy, of):
        context = context_of(references(longest), {"retriever": {"name": "faiss-knn", "k": 2}})
        plain, found = (answerer.prepare(context).answer(ASKED) for answerer in (of, strategy(of)))
        assert gold_nll(found) < gold_nll(plain) - 0.1


def gold_nll(answers):
    return -np.mean([log_softmax(a.scores)[q.answer] for a, q in zip(answers, ASKED, strict=True)])


@pytest.mark.parametrize("of", [Remix(), InContext(), KnnLabel()], ids=lambda a: a.name)
def test_without_features_the_order_is_the_arms(of):
    """Whatever the labels are: here they are drawn at random."""
    context = context_of(references(longest), settings={"labels": "shuffled", "learn_from": "all"})
    plain, found = (answerer.prepare(context).answer(ASKED) for answerer in (of, SurfaceLogit(of, ())))
    for a, b in zip(plain, found, strict=True):
        assert np.argsort(a.scores).tolist() == np.argsort(b.scores).tolist()


def test_features_are_of_options_alone():
    """Each differs between options, and says what its name does."""
    question = Question("q", "Which of the four seasons is not cold?", ("Summer", "not one of the 4 seasons", "it is"))
    prompt = Prompt((0,), ((1,), (1, 2, 3), (1, 2)), (1.0, 3.0, 2.0))
    asked = ScoredQuestion(question, prompt, np.array([-1.0, -2.0, -3.0]))
    found = {name: np.array(FEATURES[name](asked), float).round(2).tolist() for name in FEATURES}
    assert found == {
        "sum": [-1, -6, -6], "tokens": [1, 3, 2], "log-tokens": [0, 1.1, 0.69], "characters": [6, 24, 5],
        "words": [1, 6, 2], "place": [0, 0.5, 1], "longest": [0, 1, 0], "shortest": [0, 0, 1], "shared": [0, 0.67, 0.5],
        "digits": [0, 1, 0], "negation": [0, 1, 0], "capital": [1, 0, 0],
    }  # fmt: skip


class TestExponentsThatExplainAlike:
    def test_a_lettered_format_keeps_its_own(self):
        context = context_of(references(longest, 30, "letter"), format=Letter())
        found = LengthExponent().prepare(context)
        assert found.correction.exponent == 0
        for a, b in zip(Remix().prepare(context).answer(ASKED), found.answer(ASKED), strict=True):
            assert a.choice == b.choice

    def test_options_of_equal_length_keep_the_mean(self):
        known = [Question(f"k{i}", f"What is {i}?", ("aaa", "bbb", "ccc"), i % 3) for i in range(20)]
        scored = [
            ScoredQuestion(q, Prompt((0,), ((0,) * 4,) * 3, (4.0,) * 3), np.array([-1.0, -1.5, -2.0])) for q in known
        ]
        assert LengthExponent().fit(scored, np.array([q.answer for q in known])).exponent == 1


def test_one_calibration_on_top_of_another():
    context = context_of(references(longest, 20))
    (answer,) = SurfaceLogit(LengthExponent()).prepare(context).answer(ASKED[:1])
    assert sum(map(math.exp, answer.scores)) == pytest.approx(1)


class TestLabels:
    @pytest.mark.parametrize("strategy", FITTED)
    def test_of_what_is_asked_never_matter(self, strategy):
        """Also where the questions are among the references."""
        known = references(longest)
        asked = known.questions[:15]
        wrong = [replace(q, answer=(q.answer + 1) % 4) for q in asked]
        other = replace(known, questions=(*wrong, *known.questions[15:]))
        held_out = frozenset(q.id for q in asked)
        one, two = (
            strategy().prepare(context_of(of, held_out=held_out)).answer(of.questions[:15]) for of in (known, other)
        )
        assert [a.scores for a in one] == [a.scores for a in two]
        taught = strategy().prepare(context_of(other)).answer(other.questions[:15])
        assert [a.scores for a in one] != [a.scores for a in taught]

    def test_of_what_is_asked_do_not_matter_as_neighbours_either(self):
        known = references(longest, 20)
        wrong = [replace(q, answer=(q.answer + 1) % 4) for q in known.questions[:5]]
        other = replace(known, questions=(*wrong, *known.questions[5:]))
        held_out = frozenset(q.id for q in wrong)
        one, two, three = (
            LengthExponent().prepare(context_of(of, NGD, settings={"learn_from": "all"}, held_out=asked)).correction
            for of, asked in ((known, held_out), (other, held_out), (other, frozenset()))
        )
        assert one == two != three

    @pytest.mark.parametrize("strategy", FITTED)
    def test_are_those_of_the_settings(self, strategy):
        contexts = [context_of(references(longest), settings={"labels": labels}) for labels in ("own", "shuffled")]
        own, drawn = ([a.scores for a in strategy().prepare(context).answer(ASKED)] for context in contexts)
        assert own != drawn

    @pytest.mark.parametrize("strategy", LABEL_FREE)
    def test_are_not_needed(self, strategy):
        context = context_of(None)
        assert all(a.setup_flops == 0 for a in strategy().prepare(context).answer(ASKED))


@dataclass(frozen=True)
class Learner(AnswererStrategy):
    """Answers as the model does; notes what it may learn from, and what it is asked."""

    seen: list = field(default_factory=list, repr=False, compare=False)
    flattered: bool = True
    name: ClassVar[str] = "learner"
    likelihoods: ClassVar[bool] = True

    def prepare(self, context):
        return _Learned(context, self.seen)

    def learns(self, strategies):
        return self.flattered


@dataclass(frozen=True, eq=False)
class _Learned:
    context: object
    seen: list
    needs_label: ClassVar[bool] = False

    def answer(self, questions):
        assert all(question.answer is None for question in questions), "labels stay where they are"
        self.seen.extend((q.id, self.context.held_out) for q in questions)
        return [replace(answer, setup_flops=1000.0) for answer in self.context.plain(questions)]


class TestAsksTheArm:
    def test_each_reference_of_one_that_learned_from_others(self):
        known, learner = references(longest), Learner()
        held_out = frozenset({known.questions[0].id})
        made = LengthExponent(learner).prepare(context_of(known, held_out=held_out))
        assert sorted(id_ for id_, _ in learner.seen) == sorted(q.id for q in known.questions[1:]), "each once"
        assert all(id_ in others and held_out < others for id_, others in learner.seen)
        assert len({others for _, others in learner.seen}) == 5
        twice = known.subset(torch.arange(20).repeat_interleave(2))
        again = tuple(replace(q, id=f"{q.id} again {i}") for i, q in enumerate(twice.questions))
        LengthExponent(learner).prepare(context_of(replace(twice, questions=again)))
        assert all(sum(id_.split()[0] in one.split() for one in others) == 2 for id_, others in learner.seen[-40:])
        plain = context_of(known).plain(known.questions[1:])
        answer = made.answer([replace(q, answer=None) for q in ASKED])[0]
        assert answer.setup_flops == pytest.approx(6 * 1000 + sum(a.cost.total for a in plain))

    def test_or_some_of_them_alone(self):
        known, learner = references(longest), Learner()
        made = LengthExponent(learner, sample=20).prepare(context_of(known))
        asked = [id_ for id_, _ in learner.seen]
        assert len({*asked}) == len(asked) == 20
        assert all(len(others) == 4 for _, others in learner.seen), "it still learns from all but a fold of these"
        answer = made.answer([replace(q, answer=None) for q in ASKED])[0]
        costs = {
            q.id: a.cost.total for q, a in zip(known.questions, context_of(known).plain(known.questions), strict=True)
        }
        assert answer.setup_flops == pytest.approx(6 * 1000 + sum(costs[id_] for id_ in asked))
        other = Learner()
        LengthExponent(other, sample=20).prepare(context_of(known, settings={"seed": 1}))
        assert {*asked} != {id_ for id_, _ in other.seen}, "drawn by the seed"
        alone, few = (SurfaceLogit(sample=sample).prepare(context_of(known)) for sample in (None, 20))
        assert alone.correction != few.correction
        assert SurfaceLogit(sample=60).prepare(context_of(known)).correction == alone.correction

    def test_once_if_it_learns_nothing(self):
        learner = Learner(flattered=False)
        LengthExponent(learner).prepare(context_of(references(longest)))
        assert {others for _, others in learner.seen} == {frozenset()}
        assert len(learner.seen) == 60

    def test_and_fits_to_what_it_said(self):
        """One whose scores are those of the model is calibrated as the model is, but for what it took."""
        known = references(longest)
        base, asked = (LengthExponent(of).prepare(context_of(known)) for of in (Remix(), Learner(flattered=False)))
        assert base.correction.exponent == asked.correction.exponent
        assert base.correction.scale == pytest.approx(asked.correction.scale, rel=1e-3)

    def test_in_folds_if_one_change_was_learned_from_all_of_them(self):
        """A constant change of the pathway: references that taught it are asked along one that others taught."""
        known = references(longest, 20)
        constant = {"optimizer": {"name": "constant", "lr": 0.1}}
        context = context_of(known, constant, settings={"learn_from": "all"})
        assert Remix().learns(context.strategies)
        answer = SurfaceLogit().prepare(context).answer(ASKED)[0]
        assert answer.layers
        alone = Remix().prepare(context).answer(ASKED)[0]
        assert alone.reference_flops == alone.setup_flops, (
            "gradients are kept of each reference, and a constant is their mean"
        )
        tails = 20 * (alone.cost.total - alone.cost.prefill)
        assert answer.setup_flops == pytest.approx(alone.setup_flops + tails, rel=0.2), (
            "what is kept is not spent again in each fold"
        )
        assert not Remix().learns(context_of(known, NGD).strategies), "retrieval leaves a reference out by itself"

    def test_not_at_all_if_it_is_the_base(self):
        """The set knows its scores: fitting takes no more than the set itself."""
        context = context_of(references(longest))
        answer = SurfaceLogit().prepare(context).answer(ASKED)[0]
        prompts = context.prompts(context.references.questions)
        assert answer.setup_flops == pytest.approx(sum(context.model.plain_work(prompt).flops for prompt in prompts))
        assert answer.cost == context.plain(ASKED)[0].cost


class TestPrior:
    @pytest.mark.parametrize("strategy", [PMI(), Contextual()], ids=lambda strategy: strategy.name)
    def test_what_is_given_is_given_where_nothing_is_asked(self, strategy):
        """Of a sentence with a gap, the rest is scored given the choice: the prior is that of the same tokens."""
        (gap,) = (
            replace(q, question="The boat sank as the _ was full.", task="winogrande") for q in toy_questions(1, "gap")
        )
        context = context_of(None)
        own = context.model.encode(gap, context.format)
        assert any(own.given)
        for other in _AgainstPrior(strategy, Remix().prepare(context), context)._prompts(gap):
            assert (other.options, other.given, other.lengths) == (own.options, own.given, own.lengths)
            assert len(other.ids) < len(own.ids), "the format is the sentence's"

    def test_pmi_is_by_how_much_the_question_helps(self):
        """Against full forward passes."""
        context, asked = context_of(None), toy_questions(4, "asked")
        for question, answer in zip(asked, PMI().prepare(context).answer(asked), strict=True):
            own = context.model.encode(question, context.format)
            domain = encode(Rendered("Answer:", context.format.render(question).options), context.model.tokenizer)
            assert domain.options == own.options
            gained = log_likelihoods(context, own) - log_likelihoods(context, domain)
            assert answer.scores == pytest.approx(log_softmax(gained), abs=1e-3)

    def test_contextual_divides_by_the_mean_of_what_says_nothing(self):
        context, asked = context_of(None), toy_questions(4, "asked")
        for question, answer in zip(asked, Contextual().prepare(context).answer(asked), strict=True):
            free = [replace(question, question=text) for text in ("N/A", "[MASK]", "")]
            own, *others = (softmax(s.double().numpy()) for s in context.model.score_choices([question, *free]))
            quotient = own / np.mean(others, axis=0)
            assert np.exp(answer.scores) == pytest.approx(quotient / quotient.sum(), abs=1e-4)

    def test_what_says_nothing_has_no_preference(self):
        question = replace(toy_questions(3, "asked")[2], question="N/A")
        (answer,) = Contextual(texts=("N/A",)).prepare(context_of(None)).answer([question])
        assert answer.scores == pytest.approx([-math.log(4)] * 4, abs=1e-4)

    @pytest.mark.parametrize(("strategy", "passes"), [(PMI(), 1), (Contextual(), 3), (Contextual(texts=("N/A",)), 1)])
    def test_its_prompts_are_counted(self, strategy, passes):
        context = context_of(None)
        for plain, answer in zip(context.plain(ASKED), strategy.prepare(context).answer(ASKED), strict=True):
            assert answer.base_flops == plain.base_flops
            assert answer.cost.prefill == plain.cost.prefill
            assert 0.3 * passes < (answer.cost.answer - plain.cost.answer) / plain.base_flops < passes
            assert answer.ledger.answer.seconds > 0

    def test_options_are_the_questions_own(self):
        """A sentence with a blank is continued by what follows the blank, whatever stands before it."""
        question = Question("w", "The trophy does not fit because _ is too large.", ("it", "the suitcase"))
        seen = []

        class Watched(PMI):
            def against(self, asked, prior):
                seen.extend([asked, *prior])
                return super().against(asked, prior)

        context = context_of(None)
        Watched().prepare(context).answer([question])
        decoded = [context.model.tokenizer.decode(s.prompt.options[1]) for s in seen]
        assert decoded == [" the suitcase is too large."] * 2

    def test_a_text_that_leaves_nothing_to_read_is_left_out(self):
        """HellaSwag's context is the whole prompt."""
        question = Question("h", "A man sits down. He", ("eats", "flies away"), task="hellaswag")
        prompts = Contextual().instead(question, context_of(None))
        assert [rendered.prompt for rendered in prompts] == ["N/A", "[MASK]"]
        assert Contextual().prepare(context_of(None)).answer([question])[0].scores


def log_likelihoods(context, prompt):
    """``[C]`` of each option, by one full forward pass each."""
    return (choice_scores(context.model.model, prompt) * torch.tensor(prompt.lengths)).detach().numpy()


class TestRefuses:
    @pytest.mark.parametrize("sample", [9, 0, 2.5, True, "20"])
    def test_samples_that_are_none(self, sample):
        with pytest.raises(SettingError, match=r"sample"):
            LengthExponent(sample=sample)

    @pytest.mark.parametrize("name", ["length-exponent", "pmi", "contextual"])
    @pytest.mark.parametrize("of", ["knn-label", "surface-logit"])
    def test_scores_that_are_no_log_likelihoods(self, name, of):
        with pytest.raises(SettingError, match=rf"{name}\.of to be an answerer whose scores are log-like.* got {of}"):
            default_registry().create("answerer", {"name": name, "of": of})

    @pytest.mark.parametrize("strategy", FITTED)
    def test_too_few_references(self, strategy):
        known = references(longest)
        few = context_of(known, held_out=frozenset(q.id for q in known.questions[9:]))
        with pytest.raises(SettingError, match="at least 10 references that are not asked themselves, got 9"):
            strategy().prepare(few)
        with pytest.raises(SettingError, match="at least 10 references"):
            strategy().fits(few.strategies, (0, 1, 2), 8, 9)

    @pytest.mark.parametrize("strategy", FITTED)
    def test_none(self, strategy):
        with pytest.raises(SettingError, match=f"{strategy.name} expected references, got none"):
            strategy().prepare(context_of(None))

    def test_what_the_arm_itself_refuses(self):
        """Before a run begins; of an arm that learns, four folds of five have to be enough."""
        learned = Practised(training=32)
        strategies = replace(context_of(None, {"optimizer": "constant"}).strategies, selector=learned)
        SurfaceLogit().fits(strategies, tuple(range(12)), 64, 42)
        with pytest.raises(SettingError, match="at least 33 references to train on, got 32"):
            SurfaceLogit().fits(strategies, tuple(range(12)), 64, 40)

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ({"name": "surface-logit", "features": ["tokenz"]}, "got 'tokenz'; did you mean 'tokens'"),
            ({"name": "surface-logit", "features": ["sum", "sum"]}, "names, each once"),
            ({"name": "pmi", "domain": " "}, "not blank"),
            ({"name": "contextual", "texts": []}, "one text at least"),
            ({"name": "contextual", "texts": "N/A"}, "one text at least"),
        ],
    )
    def test_parameters(self, spec, said):
        with pytest.raises(SettingError, match=said):
            default_registry().create("answerer", spec)


def test_names_what_the_arm_uses():
    strategies = toy_context().strategies
    assert set(SurfaceLogit(InContext()).used(strategies)) == {*InContext().used(strategies), "labels"}
    assert PMI().used(strategies) == Remix().used(strategies)


def test_a_calibrated_base_uses_no_neighbours():
    """Whatever its selector would look at: nothing is re-mixed, so none is chosen by them."""
    specs = {"kernel": "gaussian", "retriever": "faiss-knn", "selector": {"name": "gradient", "n": 2}}
    made = default_registry().strategies(specs | {"optimizer": "none"})
    assert not {"kernel", "retriever"} & {*default_registry().create("answerer", "surface-logit").used(made)}
    moved = default_registry().strategies(specs | {"optimizer": "ngd"})
    assert {"kernel", "retriever"} <= {*default_registry().create("answerer", "surface-logit").used(moved)}
