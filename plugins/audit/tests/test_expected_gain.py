"""What re-mixing would gain, by leaving each question out: its answers, its halves, its sentence."""

from dataclasses import replace

import numpy as np
import pytest
from c3po_audit import audit
from c3po_audit.expected_gain import RATES, LeftOut, _crossed, in_words
from c3po_audit.records import AuditInterval, ExpectedGain
from models.families.checks import model_of
from routing.toys import questions

from c3po_adaptive import Optimizer
from c3po_adaptive.references import artifacts
from c3po_adaptive.references.build import reference_set_of
from c3po_adaptive.references.embedding import default_embedder

ASKED = [replace(q, task=f"kind{i % 6}") for i, q in enumerate(questions(42))]


@pytest.fixture(scope="module")
def model():
    return model_of("olmoe")


@pytest.fixture(scope="module")
def summary(model, tmp_path_factory):
    return audit(model, ASKED, tmp_path_factory.mktemp("audit") / "run", rates=[0.1])


def test_each_question_is_answered_as_all_others_teach(model):
    told = LeftOut(model, ASKED, "cloze", 0).of(ASKED[:3])
    known = reference_set_of(ASKED, model, default_embedder(), "cloze")
    for row, rate in enumerate(RATES):
        step = {"name": "integrated-step", "lr": rate}
        answers = Optimizer(model, known, preset="nearest", optimizer=step, format="cloze").remixer.answer(ASKED[:3])
        for one, answer in zip(told, answers, strict=True):
            assert np.allclose(one.scores[row], answer.scores, atol=1e-4)
    assert all(np.shape(one.layers) == (len(RATES), 3) and one.flops > 0 for one in told)


def test_what_questions_teach_is_kept_where_it_was_interrupted(model, monkeypatch, tmp_path):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path))
    left_out = LeftOut(model, [replace(q, question=f"{q.question} here") for q in ASKED], "cloze", 0)
    waiting = []

    def limited(items, label, total=None):
        waiting.append(len(items))
        for number, item in enumerate(items):
            if number == 16:
                raise KeyboardInterrupt
            yield item

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            left_out.prepare(limited)
        artifacts._STORES.clear()
    assert waiting == [42, 26]


def test_is_part_of_an_audit_of_enough_questions(summary):
    found = summary.expected_gain
    assert found.labels == 41 and found.kinds == 6 and found.rate in (0.0, *RATES)
    assert found.points.low <= found.points.value <= found.points.high
    assert list(found.layers) == [0, 1, 2] and found.nats == pytest.approx(sum(found.layers.values()))
    assert summary.cost["expected gain"] > 0 and summary.sentence.startswith("A step for each question ")
    assert "expected gain" not in summary.left_out


def test_a_half_is_judged_by_the_rate_that_the_other_half_chose():
    base = np.array([[[0, 2.0]], [[0, 2.0]], [[1, 1.0]], [[1, 1.0]]])
    stepped = np.array([[[1, 1.0], [0, 3.0]], [[1, 1.0], [0, 3.0]], [[0, 2.0], [1, 0.5]], [[0, 2.0], [1, 0.5]]])
    gains, rate = _crossed(base, stepped, np.array([0, 0, 1, 1]))
    assert gains.tolist() == [0, 0, -100, -100], "by its own choice the first half would have gained 100 points"
    assert rate == 0, "together no rate is shown to lower the loss"


def test_no_step_is_among_the_rates():
    base = np.array([[[1, 1.0]]] * 4)
    gains, rate = _crossed(base, np.array([[[0, 2.0]]] * 4), np.array([0, 1, 0, 1]))
    assert gains.tolist() == [0, 0, 0, 0] and rate == 0


@pytest.mark.parametrize(
    ("low", "value", "high", "said"),
    [(2, 8, 14, "pays here: +8.0 points [2.0, 14.0]"), (-3, 1, 5, "is not shown to pay"), (-9, -5, -1, "harms")],
)
def test_says_whether_it_pays(low, value, high, said):
    points = AuditInterval(value=value, low=low, high=high)
    layers = {16: 0.5, 17: 0.1, 18: 0.4, 19: 0.3, 20: 0.2, 21: 0.0}
    found = ExpectedGain(points=points, by_a_quarter=points, kinds=6, labels=41, rate=50, nats=1.5, layers=layers)
    assert said in in_words(found)
    assert ("layers 16, 17, 18, 19, 20" in in_words(found)) == (low > 0)
