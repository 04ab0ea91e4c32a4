"""Knowledge and pathway as one sum: what is summed, by which weights, and what ω is descended under."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from c3po_passages import Informed, Joint
from c3po_passages.choice import fitted, heavy, posterior, weights
from c3po_passages.language import strangers
from c3po_passages.passages import read_passages
from c3po_passages.score import Put
from scipy.special import log_softmax, logsumexp

from c3po_adaptive.answerers import Remix
from c3po_adaptive.errors import SettingError
from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.optimizers import AmortizedNGD, IntegratedStep, NoStep
from c3po_adaptive.optimizers._reference_artifacts import GRADIENT
from c3po_adaptive.references.artifacts import of_references
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.tasks.formats import Cloze
from c3po_adaptive.testing import toy_context
from c3po_adaptive.testing.answerers import toy_questions

ASKED = toy_questions(5, "asked")
FACTS = ["Wood floats on water.", "Stones sink.", "The sun is a star.", "Cows eat grass."]
DEAR = 1e6


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    file = tmp_path_factory.mktemp("told") / "facts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in FACTS), encoding="utf-8")
    return str(file)


def context(optimizer, **settings):
    made = toy_context(**{"max_similarity": 1.0} | settings)
    near = {"retriever": FaissKNN(k=20), "kernel": Gaussian(0.5)}
    return replace(made, strategies=replace(made.strategies, optimizer=optimizer, **near))


def joint(facts, **parameters):
    return Joint(passages=facts, **{"training": 16} | parameters)


@pytest.fixture(scope="module")
def made(facts):
    """An answerer that re-mixes along integrated gradients, which questions are asked of."""
    return joint(facts).prepare(context(IntegratedStep()))


def test_a_question_alone_is_answered_as_in_its_batch(made):
    """The rest of the contract is held for all built-ins, in ``tests/testing/test_findings.py``."""
    together = made.answer(ASKED)
    for question, answer in zip(ASKED[:2], together, strict=False):
        assert made.answer([replace(question, answer=None)])[0].scores == pytest.approx(answer.scores, abs=1e-4)


def test_passages_are_summed_as_rag_does(facts):
    """With nothing re-mixed: Σ_z p(z|x) p(y|x,z), each p(y|x,z) along a plain forward pass."""
    found = joint(facts).prepare(context(NoStep()))
    texts = {passage.id: passage.text for passage in read_passages(facts)}
    for question, answer in zip(ASKED, found.answer(ASKED), strict=True):
        told = {id_: share for id_, _, share in answer.neighbours}
        assert len(told) == 2 and 0 < answer.strength < 1
        shots = {(): 1 - answer.strength} | {(texts[id_],): share for id_, share in told.items()}
        each = [(w, found.context.model.score_choices(question, format=Cloze(shots=s))) for s, w in shots.items()]
        assert sum(shots.values()) == pytest.approx(1)
        whole = logsumexp([np.log(w) + log_softmax(scores.numpy()) for w, scores in each], 0)
        assert answer.scores == pytest.approx(whole.tolist(), abs=1e-4)
        assert answer.choice == int(whole.argmax())
        assert answer.base_scores == pytest.approx(found.context.model.score_choices(question).tolist(), abs=1e-4)


def test_each_stands_in_the_sum_twice_as_routed_and_re_mixed(made):
    told = [made.search.each(question) for question in ASKED]
    plain = made.context.plain(ASKED)
    prior = made.score.prior(Put(ASKED, told, [a.scores for a in plain]))
    assert prior.shape == (5, 2, 3) and (prior > 0).all()
    by_place = [remixer.answer(ASKED) for remixer in made.moved]
    for b, answer in enumerate(made.answer(ASKED)):
        logs = [
            np.log(prior[b, r, z]) + log_softmax(own)
            for z, found in enumerate(by_place)
            for r, own in enumerate((found[b].base_scores, found[b].scores))
        ]
        assert answer.scores == pytest.approx(logsumexp(logs, 0).tolist(), abs=1e-4)
        assert any(found[b].scores != found[b].base_scores for found in by_place) and answer.layers
        prompts = [made.context.model.plain_work(one.prompt).flops for one in told[b]]
        assert answer.cost.prefill == pytest.approx(sum(prompts)), "the question alone is read once"


def test_a_reference_teaches_behind_its_passages_by_their_posterior(made):
    """The slope of −log Σ_z p(z|x) p(y|x,z,ω) at each prompt's own pathway, Δω being the same."""
    teacher = made.moved[0].teach
    told, model = teacher.__self__, made.context.model
    rows = [3, 0]
    run, settings = model.prefill, made.context.settings
    for row, found in zip(rows, teacher(GRADIENT, rows), strict=True):
        prompts, share = [one.prompt for one in told.told[row]], torch.tensor(told.share[row]).float()
        answers = [told.references.questions[row].answer] * len(prompts)
        each = of_references(GRADIENT, model, prompts, answers, run, settings)
        assert share.sum() == pytest.approx(1) and (share > 0).sum() > 1
        torch.testing.assert_close(found, (share[:, None, None] * each).sum(0))


def test_the_optimizer_gets_what_references_teach_under_the_sum(facts):
    """Told passages move the pathway of the question alone; where all are too dear, it is that of ``remix``."""
    both, plain = (
        joint(facts, price=price).prepare(context(AmortizedNGD(steps=1))).moved[0].answer(ASKED) for price in (0, DEAR)
    )
    usual = context(AmortizedNGD(steps=1), learn_from="all")
    alone = Remix().prepare(usual).answer(ASKED)
    for a, b, c in zip(both, plain, alone, strict=True):
        assert b.scores == pytest.approx(c.scores, abs=1e-5)
        assert a.scores != pytest.approx(c.scores, abs=1e-5)


def test_what_is_not_worth_its_price_is_not_read(facts):
    free, some, dear = (
        joint(facts, price=price).prepare(context(NoStep())).answer(ASKED) for price in (0.0, 0.1, DEAR)
    )
    assert all(a.scores == pytest.approx(log_softmax(a.base_scores).tolist(), abs=1e-6) for a in dear)
    assert all(a.cost.total == a.base_flops + a.cost.embedding > a.base_flops for a in dear)
    assert not any(a.neighbours or a.strength for a in dear)
    assert all(a.strength > b.strength > c.strength for a, b, c in zip(free, some, dear, strict=True))
    assert all(a.cost.total > c.cost.total for a, c in zip(free, dear, strict=True))
    assert free[0].setup_flops == free[0].reference_flops > 0, "references were read behind their passages"


def test_what_is_asked_teaches_nothing_and_labels_do(facts):
    def learned(held_out=(), **settings):
        given = replace(context(NoStep(), **settings), held_out=frozenset(held_out))
        return joint(facts).prepare(given)

    own, shuffled = learned(), learned(labels="shuffled")
    asked = own.context.references.questions[:4]
    fewer = learned([q.id for q in asked])
    assert len(own.score.gain) == 20 and len(fewer.score.gain) == 16
    assert {q.id for q in fewer.context.references.questions}.isdisjoint(q.id for q in asked)
    assert not np.allclose(own.score.learned, shuffled.score.learned)
    with pytest.raises(SettingError, match="expected 16 references"):
        learned([q.id for q in own.context.references.questions[:5]])


def test_neighbours_gains_are_lent_but_never_ones_own(made):
    score, references = made.score, made.context.references
    row = int(np.isfinite(score.gain[:, 1, 1]).argmax())
    question = references.questions[row]
    alone = Put([question], [made.search.each(question)], [references.scores[row]])
    before = score.seen(alone)
    changed = score.gain.copy()
    changed[row] += 7
    np.testing.assert_array_equal(replace(score, gain=changed).seen(alone), before)
    lent = replace(score, gain=score.gain + 7).seen(alone)
    np.testing.assert_allclose(lent[..., -1], before[..., -1] + 7, rtol=1e-6)  # float32
    assert not before[0, 0, 0, :-1].any() and before[0, 0, 0, -1] == 0, "alone, as routed: the score is zero"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"passages": ""}, "passages"), ({"k": 0}, "k"), ({"training": 2}, "training"), ({"price": -1}, "price")],
)
def test_wrong_settings_are_refused(wrong, said):
    with pytest.raises(SettingError, match=f"joint.{said}"):
        Joint(**{"passages": "facts.jsonl"} | wrong)


def test_no_references_are_refused(facts):
    with pytest.raises(SettingError, match="joint expected references"):
        joint(facts).prepare(replace(toy_context(), build_references=lambda: None))


class TestChoice:
    """Of three candidates: the first makes no right answer likely, the third is not always there."""

    rng = np.random.default_rng(0)
    seen = rng.normal(size=(40, 3, 2))
    right = np.where(rng.random((40, 3)) < 0.2, -np.inf, np.log(rng.random((40, 3))))
    right[:, 0] = -3

    def likelihood(self, learned):
        """Of right answers, by the sum itself; with the penalty."""
        toll = np.where(np.isfinite(self.right), 0, np.inf)
        found = (weights(learned, self.seen, toll) * np.exp(self.right)).sum(-1)
        return np.log(found).sum() - learned @ learned / 2

    def test_right_answers_are_likeliest_under_what_is_learned(self):
        learned = fitted(self.seen, self.right)
        for step in (*np.eye(2), *-np.eye(2)):
            assert self.likelihood(learned) > self.likelihood(learned + 0.05 * step)
        assert self.likelihood(learned) > self.likelihood(np.zeros(2))

    def test_the_posterior_gives_the_slope_of_the_sum(self):
        prior, shift = np.array([[0.5, 0.3, 0.2]]), 1e-6
        right = np.array([[-1.0, -0.2, -2.0]])
        share = posterior(prior, right)

        def whole(values):
            return np.log((prior * np.exp(values)).sum())

        slopes = [(whole(right + shift * one) - whole(right - shift * one)) / (2 * shift) for one in np.eye(3)]
        np.testing.assert_allclose(share[0], slopes, atol=1e-6)

    def test_what_weighs_little_is_left_out(self):
        np.testing.assert_allclose(heavy(np.array([[0.01, 0.33, 0.66]])), [[0, 1 / 3, 2 / 3]])
        assert heavy(np.full((1, 100), 0.01)).all(), "where all weigh little, all stay"


class Letters:
    """Vectors that count words, as an embedder does that knows a language's words."""

    name, words = "words", ("wood", "water", "stone", "sun", "cow")

    def encode(self, texts):
        found = np.array([[text.lower().count(word) for word in self.words] + [0.1] for text in texts], np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


class TestLanguage:
    asked = tuple(f"Does {word} number {i} matter?" for i in range(5) for word in Letters.words)

    def test_the_questions_own_language_is_no_stranger(self):
        assert strangers(self.asked, [f"About {word} we know." for word in Letters.words] * 4, Letters()) == ""

    def test_words_that_the_embedder_does_not_know_are(self):
        told = ["Das Holz ist braun.", "Der Stein ist hart."] * 10
        assert "letters shuffled" in strangers(self.asked, told, Letters())

    def test_another_script_is(self):
        assert "LATIN, got mostly CYRILLIC" in strangers(self.asked, ["Дерево плавает"], Letters())
        assert "LATIN, got mostly CJK" in strangers(self.asked, ["きごう"], Letters())
        assert strangers(["これはなんですか"], ["東京都議会議員選挙", "コーヒー"], Letters()) == "", "kana among kanji"

    def test_few_texts_and_numbers_tell_nothing(self):
        assert strangers(self.asked, ["Das Holz ist braun."], Letters()) == ""
        assert strangers(self.asked, ["1 + 1 = 2"], Letters()) == ""
        assert strangers([], [], Letters()) == ""

    @pytest.mark.parametrize("kind", [Joint, Informed])
    def test_whoever_is_told_warns_once_a_run(self, kind, tmp_path):
        (tmp_path / "told.txt").write_text("Дерево плавает.\n\nКамень тонет.\n", encoding="utf-8")
        parameters = {"training": 16} if kind is Joint else {}
        asked = kind(passages=str(tmp_path / "told.txt"), **parameters)
        with pytest.warns(UserWarning, match="CYRILLIC") as warned:
            found = asked.prepare(context(NoStep())).answer([*ASKED, *ASKED])
        assert len(warned) == 1
        assert len(found) == 10
