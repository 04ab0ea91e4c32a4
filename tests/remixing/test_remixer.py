"""The whole way from questions to answers, on tiny models."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from own_plugin import Practised
from routing.naive import FAMILIES, SCOPES, along, assert_pristine, choice_scores, moved, routed_model, shared_model
from routing.toys import HashEmbedder, questions, reference_set
from torch import Tensor

from c3po_adaptive import Attribution
from c3po_adaptive.attribution import METHODS, attribute
from c3po_adaptive.errors import DataError, PluginError, SettingError
from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.ledger import Entry
from c3po_adaptive.losses import entropy, right_answer_loss
from c3po_adaptive.models.provenance import stack_pathways
from c3po_adaptive.optimizers.amortized import AmortizedNGD
from c3po_adaptive.optimizers.base import PathwayOptimizer
from c3po_adaptive.optimizers.constant import Constant
from c3po_adaptive.optimizers.kernel_regression import KernelRegression
from c3po_adaptive.optimizers.mode_finding import ModeFinding
from c3po_adaptive.optimizers.ngd import NGD
from c3po_adaptive.optimizers.none import NoStep
from c3po_adaptive.optimizers.oracle import Oracle
from c3po_adaptive.optimizers.random_change import RandomChange
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.remixing.remixer import Remixer
from c3po_adaptive.remixing.sample_batch import SampleBatch
from c3po_adaptive.remixing.strategies import Strategies
from c3po_adaptive.retrievers import FaissKNN, FaissRadius
from c3po_adaptive.routing.generation import Written
from c3po_adaptive.selectors.fixed import Fixed
from c3po_adaptive.selectors.gradient import Amortized, Gradient
from c3po_adaptive.selectors.random_layers import RandomLayers
from c3po_adaptive.settings import RemixSettings
from c3po_adaptive.tasks.formats import Letter
from c3po_adaptive.types import NO_CHOICE, Pathway, Question

TEST = questions(5, "t")
EMPTY = [Fixed(n=0, experts=6), RandomLayers(n=0, experts=6), Attribution(n=0, experts=6)]


@dataclass(frozen=True)
class Spy(PathwayOptimizer):
    """Takes no step, and keeps the problem."""

    seen: list = field(default_factory=list, repr=False)
    name: ClassVar[str] = "spy"
    searches_pathways: ClassVar[bool] = True

    def optimize(self, problem):
        self.seen.append(problem)
        return problem.own


@dataclass(frozen=True)
class Hungry(PathwayOptimizer):
    """Runs into an error of torch's."""

    says: str
    name: ClassVar[str] = "hungry"

    def optimize(self, problem):
        raise RuntimeError(self.says)


def remixer(family="olmoe", **changes):
    """With some of its strategies, settings or other fields changed."""
    roles = {"optimizer": NGD(steps=3, lr=0.05), "kernel": Gaussian(), "retriever": FaissKNN(k=3)}
    roles["selector"] = Fixed(n=2, experts=6)
    fields = {"model": shared_model(family), "references": reference_set(family), "embedder": HashEmbedder()}
    strategies = {name: changes.pop(name, strategy) for name, strategy in roles.items()}
    settings = {name: changes.pop(name) for name in RemixSettings.model_fields if name in changes}
    return Remixer(**fields | changes, strategies=Strategies(**strategies), settings=settings)


def problem_of(family="olmoe", asked=TEST, **changes):
    spy = Spy()
    remixer(family, optimizer=spy, **changes).answer(asked)
    return spy.seen[0]


def pool(family="olmoe"):
    """The successful references, which rows of neighbours point into."""
    references = reference_set(family)
    return references.successes


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


class TestBase:
    """What must not change anything changes nothing, bit for bit."""

    @pytest.mark.parametrize("mix", ["core", "top-k"])
    @pytest.mark.parametrize(
        "changes",
        [{"optimizer": NGD(steps=0)}, {"optimizer": NoStep()}, *({"selector": s} for s in EMPTY)],
        ids=str,
    )
    def test_no_step_or_no_layer_is_the_base(self, family, changes, mix):
        for question, answer in zip(TEST, remixer(family, mix=mix, **changes).answer(TEST), strict=True):
            assert answer.scores == answer.base_scores
            assert answer.scores == tuple(shared_model(family).score_choices(question).tolist())
            assert answer.choice == answer.base_choice
            assert torch.equal(answer.pathway.weights, answer.pathway.own)
            assert answer.layers == ()
            assert answer.experts == {}
            assert answer.cost.answer == 0
        assert_pristine(shared_model(family).model)

    def test_no_neighbours_no_change(self, family):
        for answer in remixer(family, retriever=FaissRadius(epsilon=0.0)).answer(TEST):
            assert answer.neighbours == ()
            assert answer.scores == answer.base_scores
            assert answer.cost.optimisation == 0

    def test_base_scores_are_those_of_the_model(self, family):
        for question, answer in zip(TEST, remixer(family).answer(TEST), strict=True):
            assert answer.base_scores == tuple(shared_model(family).score_choices(question).tolist())
            assert answer.scores != answer.base_scores


class TestNeighbours:
    def test_kernel_weights(self):
        problem = problem_of()
        vectors = HashEmbedder().encode([q.question for q in TEST])
        similarity = vectors @ pool().embeddings.numpy().T
        for b in range(len(TEST)):
            best = np.argsort(-similarity[b])[:3]
            assert problem.neighbours.index[b].tolist() == best.tolist()
            kernel = np.exp(-(2 - 2 * similarity[b, best]) / (2 * 0.5**2))
            np.testing.assert_allclose(problem.neighbours.weight[b], kernel / kernel.sum(), rtol=1e-4)
            assert torch.equal(problem.neighbour_pathways[b], pool().pathways[best])

    def test_only_successes(self):
        ids = {q.id for q in pool().questions}
        assert len(ids) < 24
        for answer in remixer(retriever=FaissKNN(k=20)).answer(TEST):
            assert {row[0] for row in answer.neighbours} == ids
            assert sum(row[2] for row in answer.neighbours) == pytest.approx(1)
        for answer in remixer(retriever=FaissKNN(k=24), learn_from="all", max_similarity=1.0).answer(TEST):
            assert {row[0] for row in answer.neighbours} == {q.id for q in reference_set("olmoe").questions}

    def test_near_duplicates_are_not_used(self):
        twin = pool().questions[0]
        asked = [Question("other", twin.question.upper().replace("?", "!"), twin.choices)]
        ids = [row[0] for row in remixer(optimizer=NGD(steps=1), retriever=FaissKNN(k=20)).answer(asked)[0].neighbours]
        assert len(ids) == len(pool()) - 1
        assert twin.id not in ids
        assert problem_of(asked=asked).excluded == ({0},)
        every = remixer(max_similarity=1.0).answer(asked)[0].neighbours
        assert every[0][:2] == (twin.id, pytest.approx(1))

    def test_an_optimizer_that_searches_for_its_own_shows_none_of_them(self):
        (answer,) = remixer(optimizer=ModeFinding(retriever=FaissKNN(k=20))).answer(TEST[:1])
        assert answer.neighbours == () and answer.layers
        assert answer.cost.references == 0, "their pathways are enough, which the set holds"
        (answer,) = remixer(optimizer=ModeFinding(), selector=Attribution(n=1, experts=6)).answer(TEST[:1])
        assert answer.neighbours, "the selector looked at them"

    def test_a_reference_is_never_its_own_neighbour(self):
        asked = list(pool().questions)
        answers = remixer(max_similarity=1.0, retriever=FaissKNN(k=20)).answer(asked)
        for question, answer in zip(asked, answers, strict=True):
            assert len(answer.neighbours) == len(asked) - 1
            assert question.id not in {row[0] for row in answer.neighbours}
        assert problem_of(asked=asked, max_similarity=1.0).excluded == tuple({i} for i in range(len(asked)))

    @pytest.mark.parametrize("change", [{}, {"about": "boats"}, {"question": " What is\u200b it ?"}], ids=str)
    def test_a_question_is_not_its_own_neighbour_by_another_id(self, change):
        known = replace(pool().questions[0], question="What is it?")
        references = replace(pool(), questions=(known, *pool().questions[1:]))
        asked = [replace(known, id="again", answer=None, **change)]
        remixing = remixer(references=references, max_similarity=1.0, retriever=FaissKNN(k=20))
        assert len(remixing.answer(asked)[0].neighbours) == len(references) - 1
        assert 0 in problem_of(references=references, asked=asked, max_similarity=1.0).excluded[0]

    def test_an_embedder_without_unit_vectors_is_refused(self):
        class Longer(HashEmbedder):
            def encode(self, texts):
                return 2 * super().encode(texts)

        with pytest.raises(DataError, match="vectors of length 1, got one of length 2"):
            remixer(embedder=Longer()).answer(TEST[:1])

    def test_are_required_only_by_those_who_look_at_them(self):
        class Refused(HashEmbedder):
            def encode(self, texts):
                raise AssertionError("nobody needs an embedding")

        settings = {"references": None, "optimizer": NoStep("core"), "embedder": Refused()}
        answer = remixer(**settings).answer(TEST[:1])[0]
        assert answer.neighbours == ()
        assert answer.cost.embedding == answer.cost.references == 0
        assert answer.scores != answer.base_scores
        for changes in ({"optimizer": NGD()}, {"selector": Attribution()}):
            with pytest.raises(SettingError, match="Expected a reference set for"):
                remixer(**settings | changes)
        with pytest.raises(SettingError, match="seed: Input should be a valid integer, not None"):
            remixer(**settings, seed=None)

    def test_of_another_model_or_format_are_refused(self):
        with pytest.raises(DataError, match="built with model"):
            remixer(model=routed_model("olmoe", seed=1))
        with pytest.raises(DataError, match="built with format"):
            remixer(format="letter")


class TestMemory:
    def test_half_a_batch_where_a_whole_one_does_not_fit(self, monkeypatch):
        run = remixer(batch_size=4)
        expected = run.answer(TEST)
        sizes, whole = [], Remixer._answer

        def limited(self, asked):
            sizes.append(len(asked))
            if len(asked) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return whole(self, asked)

        monkeypatch.setattr(Remixer, "_answer", limited)
        with pytest.warns(UserWarning, match="4 questions together did not fit in memory; going on with 2"):
            answers = run.answer(TEST)
        assert sizes == [4, 2, 2, 1]
        assert [a.choice for a in answers] == [a.choice for a in expected]
        for a, b in zip(answers, expected, strict=True):
            torch.testing.assert_close(torch.tensor(a.scores), torch.tensor(b.scores), atol=1e-4, rtol=1e-4)

    def test_one_question_that_does_not_fit(self):
        failure = pytest.raises(SettingError, match=r"for one question with its neighbours, got: .* fewer")
        with failure, pytest.warns(UserWarning, match="did not fit in memory"):
            remixer(optimizer=Hungry("DefaultCPUAllocator: can't allocate memory: you tried")).answer(TEST)

    def test_other_errors_are_no_lack_of_memory(self):
        with pytest.raises(
            PluginError,
            match=r"'hungry' to work, got RuntimeError in optimize at .*test_remixer.py:\d+: broken",
        ):
            remixer(optimizer=Hungry("broken")).answer(TEST)

    @pytest.mark.parametrize("optimizer", [NGD(steps=1), Oracle(of=NGD(steps=1)), AmortizedNGD()], ids=lambda o: o.name)
    def test_a_batch_goes_when_it_is_answered(self, optimizer, monkeypatch):
        """Not when the garbage collector comes: until then it would hold the states of all its neighbours."""
        asked, made, begin = remixer(optimizer=optimizer), [], SampleBatch.__init__

        def noted(batch, *args, **settings):
            made.append(weakref.ref(batch))
            begin(batch, *args, **settings)

        monkeypatch.setattr(SampleBatch, "__init__", noted)
        gc.collect()
        gc.disable()
        try:
            asked.answer(TEST)
            assert [batch() for batch in made] == [None]
        finally:
            gc.enable()


class TestLosses:
    @pytest.mark.parametrize("scope", SCOPES)
    @pytest.mark.parametrize(("transfer", "loss"), [("replace", "choices"), ("shift", "likelihood")])
    def test_neighbours_loss_is_that_of_full_forwards(self, family, scope, transfer, loss):
        """Every neighbour's question is run with the sample's ω at its last prompt token."""
        problem = problem_of(family, scope=scope, transfer=transfer, loss=loss, head="full")
        model = shared_model(family)
        weights = moved(Pathway(problem.own, problem.own, problem.layers)).weights
        with torch.no_grad():
            losses = problem.loss(weights)
            base = problem.loss(problem.own)
            for b in range(len(TEST)):
                expected = 0.0
                for row, share in zip(problem.neighbours.index[b], problem.neighbours.weight[b], strict=True):
                    question = pool(family).questions[row]
                    prompt = model.encode(question)
                    how = {"scope": scope, "transfer": transfer}
                    edit = along(weights[b], problem.own[b], len(prompt.ids) - 1, **how)
                    scores = choice_scores(model.model, prompt, edit)[None]
                    expected += share * right_answer_loss(scores, torch.tensor([question.answer]), loss)[0]
                torch.testing.assert_close(losses[b], expected, atol=1e-4, rtol=0)
        assert (losses - base).abs().min() > 1e-4

    def test_unselected_layers_do_not_act(self):
        problem = problem_of(selector=Fixed(layers=(1,), experts=6))
        weights = moved(Pathway(problem.own, problem.own, problem.layers), layers=(0, 2)).weights
        with torch.no_grad():
            assert torch.equal(problem.loss(weights), problem.loss(problem.own))

    def test_entropy_is_that_of_the_samples_own_choices(self, family):
        problem, model = problem_of(family), shared_model(family)
        weights = moved(Pathway(problem.own, problem.own, problem.layers)).weights
        with torch.no_grad():
            values = problem.entropy(weights)
            for b, question in enumerate(TEST):
                prompt = model.encode(question)
                edit = along(weights[b], problem.own[b], len(prompt.ids) - 1)
                expected = entropy(choice_scores(model.model, prompt, edit)[None])[0]
                torch.testing.assert_close(values[b], expected, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("transfer", ["replace", "shift"])
    def test_gradient_equals_finite_differences(self, family, transfer):
        problem = problem_of(family, selector=Fixed(n=3, experts=8), transfer=transfer)
        weights = moved(Pathway(problem.own, problem.own, problem.layers), layers=(0, 1, 2)).weights.requires_grad_()
        (gradient,) = torch.autograd.grad(problem.loss(weights).sum(), weights)
        for seed in range(3):
            direction = torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed))
            direction = gradient / gradient.norm() + 0.5 * direction / direction.norm()  # not nearly level
            step = 3e-4 * direction  # further away, a router behind may choose other experts
            with torch.no_grad():
                slope = (problem.loss(weights + step) - problem.loss(weights - step)).sum() / 6e-4
            assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=0.03)

    def test_gradient_at_the_models_own_pathway_is_that_of_raising_weights(self, family):
        """On answer tokens Δω is clipped at zero, where most experts are: a kink."""
        problem = problem_of(family, selector=Fixed(n=1, experts=8), scope="answer")  # no router comes behind
        own = problem.own.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(problem.loss(own).sum(), own)
        more = torch.rand(own.shape, generator=torch.Generator().manual_seed(0)) * problem.selection.mask
        slope = (gradient * more).sum().item()
        with torch.no_grad():
            up, here, down = (problem.loss(problem.own + step * more).sum().item() for step in (1e-3, 0, -1e-3))
        assert slope == pytest.approx((up - here) / 1e-3, rel=0.02)
        assert slope != pytest.approx((here - down) / 1e-3, rel=0.5)

    def test_descent_lowers_it(self, family):
        problem = problem_of(family)
        omega = NGD(steps=8, lr=0.05).optimize(problem)
        with torch.no_grad():
            assert (problem.loss(omega) < problem.loss(problem.own)).all()


@dataclass(frozen=True)
class Careless(PathwayOptimizer):
    """Returns what ``wrong`` makes of the model's own weights."""

    wrong: Callable = field(repr=False)
    name: ClassVar[str] = "careless"

    def optimize(self, problem):
        return self.wrong(problem.own.clone(), problem)


def elsewhere(own, problem):
    """Half of a layer's mass on an expert that is neither selected nor the model's own."""
    outside = ~(problem.selection.mask | (own > 0)) & problem.selection.layers.unsqueeze(-1)
    b, layer, e = outside.nonzero()[0].tolist()
    mass = own[b, layer].sum()
    own[b, layer] /= 2
    own[b, layer, e] = mass / 2
    return own


class TestContractOfOptimizers:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (lambda own, p: own * 1.1, "keep the mass of each layer, got a sum that differs by"),
            (lambda own, p: own.flip(-1), "own weights in layers that are not selected, got others"),
            (elsewhere, "own weights of experts that are not selected, got others"),
            (lambda own, p: own - 1, "finite weights >= 0"),
            (lambda own, p: own[:1], r"of shape \(B, L, E\) = \(5, 3, 8\), got \(1, 3, 8\)"),
            (lambda own, p: own.tolist(), "got list; return a tensor"),
        ],
    )
    def test_is_held(self, wrong, message):
        with pytest.raises(PluginError, match=f"'careless' to return .*{message}"):
            remixer(optimizer=Careless(wrong), selector=Fixed(n=2, experts=5)).answer(TEST)

    def test_no_strategy_can_reach_a_label(self):
        problem = problem_of(asked=[replace(q, answer=1) for q in TEST])
        assert problem.loss.__self__.batch.questions is None
        assert problem.within(problem.selection).loss.__self__.batch.questions is None


@dataclass(frozen=True)
class CarelessSelector(Fixed):
    """Breaks one promise, on purpose."""

    wrong: Callable = field(kw_only=True, repr=False)
    name: ClassVar[str] = "careless"

    def select(self, problem):
        return replace(super().select(problem), **self.wrong(problem.own))


class TestContractOfSelectors:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (lambda own: {"mask": own}, r"a bool mask \(B, L, E\) = .*got torch.float32"),
            (lambda own: {"mask": own[:, 1:] > 0}, r"a bool mask \(B, L, E\) = \(5, 3, .*got torch.bool \(5, 2, "),
            (lambda own: {"scores": own.sum(-1) / 0}, r"finite scores \(B, L\) = .*got NaN or infinity"),
            (lambda own: {"scores": own.sum(-1) * torch.nan}, r"finite scores \(B, L\) = .*got NaN or infinity"),
            (lambda own: {"scores": own}, r"finite scores \(B, L\) = \(5, 3\), got \(5, 3, "),
            (lambda own: {"strength": own.sum((1, 2)) * torch.inf}, r"finite strength \(B\) = .*got NaN or infinity"),
            (lambda own: {"strength": own[:, 0, :2]}, r"finite strength \(B\) = \(5,\), got \(5, 2\)"),
        ],
    )
    def test_is_held(self, wrong, message):
        with pytest.raises(SettingError, match=f"'careless' to return {message}"):
            remixer(selector=CarelessSelector(n=2, experts=5, wrong=wrong)).answer(TEST)


@dataclass(frozen=True)
class OneToken(Letter):
    """Options of one token, which no other comes after: the tiny tokenizer makes a token of the space."""

    name: ClassVar[str] = "one-token"

    def _alone(self, question):
        own = super()._alone(question)
        return replace(own, options=tuple(option.strip() for option in own.options))


class TestAttribution:
    """On a model, as on the functions written by hand."""

    @pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.complete])
    @pytest.mark.parametrize("of", ["neighbours", "entropy", "margin"])
    def test_is_complete(self, method, of):
        references = build_reference_set(shared_model("olmoe"), questions(24), HashEmbedder(), format=OneToken())
        problem = problem_of(scope="last", format=OneToken(), references=references)
        found = attribute(problem, method, of=of, experts=6, steps=32, delta=True)
        assert found.values.abs().sum() > 1e-4
        assert found.delta.abs().max() < 1e-3

    def test_integrated_gradients_do_not_see_jumps(self):
        """Where tokens after the last one route anew, f(Ω) jumps: Shapley values hold all the same."""
        problem = problem_of(scope="last")
        for method, complete in (("integrated-gradients", False), ("shapley-sampling", True)):
            found = attribute(problem, method, of="margin", experts=6, steps=64, delta=True)
            assert (found.delta.abs().max() < 1e-3) == complete
            assert found.delta.abs().min() < 1e-3, "some questions meet no jump"


class TestAnswers:
    @pytest.mark.parametrize("scope", SCOPES)
    def test_are_written_along_their_pathway(self, scope):
        """The pathway and the scores are those of likelihood; the choice is what the model writes."""
        far = {"scope": scope, "optimizer": NGD(steps=3, lr=5.0)}
        run, likeliest, moved = remixer(**far, score="generated"), remixer(**far).answer(TEST), []
        for question, answer, scored in zip(TEST, run.answer(TEST), likeliest, strict=True):
            prompt = [run.model.encode(question)]
            (along,), (own,) = run.model.written(prompt, stack_pathways([answer.pathway])), run.model.written(prompt)
            assert answer.generated == along.text
            moved.append(along.text != own.text)
            assert (answer.choice, answer.base_choice) == (NO_CHOICE, NO_CHOICE), "a random model writes nonsense"
            torch.testing.assert_close(torch.tensor(answer.scores), torch.tensor(scored.scores), atol=1e-5, rtol=0)
            spent = answer.ledger.answer.flops - scored.ledger.answer.flops
            assert spent == pytest.approx(along.work.flops)
        assert any(moved)

    def test_what_is_written_is_a_choice(self, monkeypatch):
        """Right, wrong, or none, along the pathway and without it."""
        said = iter([*((q.choices[0], q.choices[1]) for q in TEST[:3]), ("", TEST[3].choices[1]), ("so", "and so")])
        lines = [Written(text, Entry(1.0)) for pair in zip(*said, strict=True) for text in pair]
        monkeypatch.setattr(type(shared_model("olmoe")), "written", lambda *given: [lines.pop(0) for _ in TEST])
        answers = remixer(score="generated").answer(TEST)
        assert [a.choice for a in answers] == [0, 0, 0, NO_CHOICE, NO_CHOICE]
        assert [a.base_choice for a in answers] == [1, 1, 1, 1, NO_CHOICE]
        assert answers[3].generated == ""

    @pytest.mark.parametrize("mix", ["core", "top-k"])
    @pytest.mark.parametrize("scope", SCOPES)
    def test_are_scored_along_their_pathway(self, family, scope, mix):
        model = shared_model(family)
        for question, answer in zip(TEST, remixer(family, scope=scope, mix=mix).answer(TEST), strict=True):
            assert (answer.pathway.scope, answer.pathway.top_k) == (scope, 2 if mix == "top-k" else None)
            expected = model.score_choices(question, routing=answer.pathway)
            torch.testing.assert_close(torch.tensor(answer.scores), expected, atol=1e-5, rtol=0)
            assert answer.choice == expected.argmax()
            assert answer.layers == (1, 2)
            for layer in (1, 2):
                differs = answer.pathway.weights[layer] != answer.pathway.own[layer]
                assert answer.experts[layer] == tuple(differs.nonzero().squeeze(1).tolist())

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"optimizer": NGD(steps=4, lr=0.05, step="sgd", parametrization="logits", tolerance=0.01)},
            {"optimizer": KernelRegression()},
            {"optimizer": ModeFinding(steps=2)},
            {"selector": Attribution(n=2, experts=6, share=0.5)},
            {"selector": Gradient(n=2, experts=6, within_last=2)},
            {"selector": Amortized(n=2, experts=6, rank="score", expert_share=0.8)},
            {"selector": Attribution(method="integrated-gradients", n=1, experts=6, of="entropy", steps=3)},
        ],
        ids=str,
    )
    def test_batch_equals_one_by_one(self, family, changes):
        run = remixer(family, **changes)
        for question, together in zip(TEST, run.answer(TEST), strict=True):
            (alone,) = run.answer([question])
            torch.testing.assert_close(together.pathway.weights, alone.pathway.weights, atol=1e-4, rtol=0)
            assert together.scores == pytest.approx(alone.scores, abs=1e-4)
            assert together.layers == alone.layers

    @pytest.mark.parametrize(
        "changes", [{}, {"optimizer": KernelRegression()}, {"selector": Attribution(n=1, experts=6)}], ids=str
    )
    def test_do_not_depend_on_the_label(self, changes):
        wrong = [replace(q, answer=(q.answer + 1) % len(q.choices)) for q in TEST]
        unknown = [replace(q, answer=None) for q in TEST]
        run = remixer(**changes)
        for answers in zip(*(run.answer(asked) for asked in (TEST, wrong, unknown)), strict=True):
            assert len({a.scores for a in answers}) == 1
            assert torch.equal(answers[0].pathway.weights, answers[1].pathway.weights)


class TestOracle:
    @pytest.mark.parametrize("loss", ["choices", "likelihood", "lead"])
    def test_lowers_the_loss_of_the_right_answer(self, family, loss):
        run = remixer(family, references=None, optimizer=Oracle(of=NGD(steps=8, lr=0.05)), loss=loss)
        for question, answer in zip(TEST, run.answer(TEST), strict=True):
            label = torch.tensor([question.answer])
            before, after = (
                right_answer_loss(torch.tensor([s]), label, loss) for s in (answer.base_scores, answer.scores)
            )
            assert after < before

    @pytest.mark.parametrize("learned", [NGD(steps=2, lr=0.05), Constant(steps=2, lr=0.05)], ids=lambda o: o.name)
    def test_a_selector_that_learns_chooses_as_it_does_for_the_arm(self, learned):
        """It learns from re-mixing without labels, by the optimizer that the oracle bounds."""
        known = build_reference_set(shared_model("olmoe"), questions(40), HashEmbedder())
        how = {"selector": Practised(n=1, experts=5), "references": known}
        own, bound = (remixer(optimizer=o, learn_from="all", **how) for o in (learned, Oracle(of=learned)))
        for one, other in zip(own.answer(TEST), bound.answer(TEST), strict=True):
            assert one.layers == other.layers != ()
            assert one.layer_scores == other.layer_scores
        assert (own.needs_label, bound.needs_label) == (False, True)

    def test_needs_every_answer(self):
        with pytest.raises(DataError, match="expected the answer of every question"):
            remixer(optimizer=Oracle()).answer([TEST[0], replace(TEST[1], answer=None)])


class TestCost:
    def test_grows_with_what_is_done(self, family):
        few, many = (remixer(family, optimizer=NGD(steps=n, lr=0.05)).answer(TEST) for n in (2, 4))
        for question, a, b in zip(TEST, few, many, strict=True):
            assert a.cost.prefill == a.base_flops > 0
            assert a.cost.embedding == 10.0 * len(question.question)
            assert a.cost.references > 0
            assert a.cost.attribution == 0
            assert b.cost.optimisation == pytest.approx(2 * a.cost.optimisation, rel=0.1)
            assert 0 < a.cost.answer < a.cost.prefill
            assert a.cost.total == pytest.approx(sum(vars(a.cost).values()))

    def test_of_attribution(self):
        gradient, integrated = (
            remixer(selector=Attribution(method=method, n=2, experts=6, steps=4)).answer(TEST)
            for method in ("input-x-gradient", "integrated-gradients")
        )
        for a, b in zip(gradient, integrated, strict=True):
            assert 0 < 3 * a.cost.attribution < b.cost.attribution
            assert len(a.layer_scores) == 3

    def test_does_not_depend_on_what_ran_before(self):
        run = remixer(model=routed_model("olmoe"))
        first, second = (run.answer(TEST[:2]) for _ in range(2))
        assert [a.cost for a in first] == [a.cost for a in second]


class TestRawText:
    def test_entropy_needs_choices(self):
        run = remixer(selector=Attribution(of="entropy", experts=6, n=1))
        states = run.model.prefill([run.model.encode_text("Boats float.")])
        with pytest.raises(SettingError, match="questions with choices"):
            run.remix(states, ["Boats float."])


class TestTraining:
    """What a selector learns from: references, each as a question, and none that is asked in the same run."""

    def test_held_out_references_teach_nobody(self):
        ids = {q.id for q in pool().questions[:4]}
        run = remixer(selector=Gradient(n=2, experts=6), held_out=frozenset(ids), retriever=FaissKNN(k=20))
        (problem,) = run.training.problems(6)
        assert len(problem.own) == 6
        near = {run.candidates.questions[row].id for row in problem.neighbours.index.flatten().tolist() if row >= 0}
        assert near
        assert not near & ids

    def test_draws_do_not_overlap(self):
        run = remixer(selector=Gradient(n=2, experts=6))
        asked = []
        train = run._training_batch
        run._training_batch = lambda questions: [asked.extend(q.id for q in questions), train(questions)][1]
        list(run.training.problems(5))
        list(run.training.problems(7, skip=5))
        assert len(set(asked)) == 12

    def test_calibration_scores_what_is_answered(self):
        """With the top-k mixed in the answer, the choice may be another than in the descent."""
        for mix in ("core", "top-k"):
            run = remixer(mix=mix, selector=Gradient(n=2, experts=6))
            (problem,) = run.training.problems(8)
            inside = problem.within(run.strategies.selector.select(problem.unlabeled()))
            omega = run.strategies.optimizer.optimize(inside.unlabeled())
            pathway = Pathway(omega, problem.own, problem.layers, top_k=2 if mix == "top-k" else None)
            states = problem.loss.__self__.batch.states
            expected = torch.stack([s.argmax() for s in run.model.choice_scores(states, pathway)])
            assert torch.equal(problem.answered(omega), expected)

    def test_identity_knows_the_code_of_what_is_wrapped(self, tmp_path, monkeypatch):
        """A plugin may be edited, and so may what it builds on."""
        import sys
        from importlib import invalidate_caches

        keys = set()
        monkeypatch.syspath_prepend(tmp_path)
        for version in range(2):
            (tmp_path / "own_step.py").write_text(
                f"from c3po_adaptive.optimizers.ngd import NGD\n\n\nclass Own(NGD):\n    name = 'own'  # {version}\n"
            )
            sys.modules.pop("own_step", None)
            invalidate_caches()
            from own_step import Own

            keys.add(repr(remixer().training._identity(RandomChange(of=Own()))))
        assert len(keys) == 2

    def test_code_without_a_file_is_not_kept(self):
        """A class of a notebook's cell may have been written anew."""
        calls, scope = [], {"Fixed": Fixed, "__name__": "a cell"}
        exec("class Own(Fixed):\n    name = 'own'", scope)
        for _ in range(2):
            run = remixer(selector=scope["Own"](n=2, experts=6))
            run.training.once(run.strategies.selector, lambda: calls.append(1) or {"x": torch.zeros(1)})
        assert len(calls) == 2

    def test_identity_knows_what_decides(self):
        keys = {
            repr(remixer(**changes).training._identity(Gradient()))
            for changes in ({}, {"mix": "top-k"}, {"learn_from": "all"}, {"labels": "shuffled"}, {"seed": 1},
                            {"retriever": FaissKNN(k=2)}, {"optimizer": NGD(steps=4)}, {"scope": "last"})
        }  # fmt: skip
        assert len(keys) == 8


@dataclass(frozen=True)
class Trained(NoStep):
    """Learns the ids of what it is shown, and looks at no neighbour."""

    training: int = 8
    learned: Tensor | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "trained"

    @property
    def references_needed(self):
        return self.training

    def prepare(self, training):
        shown = [problem.own for problem in training.problems(self.training)]
        return replace(self, learned=torch.cat(shown))


class TestOptimizersThatLearn:
    def test_learn_once_from_references_without_any_neighbour(self):
        run = remixer(optimizer=Trained(), selector=Fixed(n=2, experts=6))
        assert len(run.strategies.optimizer.learned) == 8
        assert run.candidates is None, "nothing is retrieved"
        answers = run.answer(questions(3, "t"))
        assert all(a.cost.embedding == a.cost.references == 0 and not a.neighbours for a in answers)

    def test_what_selects_for_them_learns_from_others(self):
        run = remixer(optimizer=Trained(), selector=Gradient(n=2, experts=6))
        (others,) = run.training.problems(8)
        mine = run.strategies.optimizer.learned
        assert not any(torch.equal(a, b) for a in others.own for b in mine)

    def test_are_known_by_their_parameters_alone(self):
        run = remixer(optimizer=Trained(), selector=Fixed(n=2, experts=6))
        assert repr(run.strategies.optimizer) == repr(Trained())

    def test_without_references_it_is_said(self):
        with pytest.raises(SettingError, match="reference set for trained with fixed, got none"):
            remixer(references=None, optimizer=Trained(), selector=Fixed(n=2, experts=6))

    def test_more_references_than_there_are(self):
        with pytest.raises(SettingError, match="at least 99 references to train on"):
            remixer(optimizer=Trained(training=99), selector=Fixed(n=2, experts=6))

    def test_that_prepare_something_else_are_named(self):
        class Wrong(NoStep):
            name = "wrong"

            def prepare(self, training):
                return None

        with pytest.raises(PluginError, match="optimizer 'wrong' to prepare an optimizer, got NoneType"):
            remixer(optimizer=Wrong())


def test_what_is_spent_whatever_is_asked_is_told_in_each_answer():
    """References' prompts, and what is kept of each, for one question as for many; nothing where none is needed."""
    plain = remixer(optimizer=NoStep())
    assert plain.answer(TEST[:1])[0].setup_flops == 0
    near = remixer(optimizer=AmortizedNGD(steps=1), selector=Fixed(n=2, experts=6))
    one, all_of_them = near.answer(TEST[:1])[0].setup_flops, {answer.setup_flops for answer in near.answer(TEST)}
    assert all_of_them == {one}
    prompts = sum(near.model.plain_work(near.model.encode(q)).flops for q in near.references.questions)
    assert one > 1.2 * prompts
    assert remixer(optimizer=NGD(steps=1)).answer(TEST[:1])[0].setup_flops == pytest.approx(prompts)
