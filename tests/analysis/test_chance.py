"""How likely guessing is to be as right as a model."""

import pytest
from records.made import answered
from scipy.stats import binom

from c3po_adaptive.analysis.chance import above_chance


def test_of_questions_with_as_many_choices_it_is_binomial():
    def records(right):
        return [answered(dataset="a", arm="base", id=str(i), scores=[0.0] * 4, correct=i < right) for i in range(20)]

    found = above_chance(records(9))
    assert found.p == pytest.approx(binom.sf(8, 20, 0.25))
    assert (found.accuracy, found.chance) == (45, 25)
    assert found.shown
    assert not above_chance(records(6)).shown


def test_of_different_ones_it_is_their_own():
    records = [answered(dataset="a", arm="base", id=str(c), scores=[0.0] * c, correct=True) for c in (2, 3, 5)]
    assert above_chance(records).p == pytest.approx(1 / 30)
