"""Which references their nearest ones vote against."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from routing.toys import reference_set

from c3po_adaptive.errors import DataError
from c3po_adaptive.references.agreement import suspects, suspicion, votes
from c3po_adaptive.settings import RemixSettings
from c3po_adaptive.types import Question


def cluster(name, answer, count=6):
    return [Question(f"{name}{i}", f"{name} {i}", ("yes", "no", "maybe"), answer) for i in range(count)]


REFERENCES = [*cluster("a", 0), *cluster("b", 1)]
PLACES = np.random.default_rng(0).normal(size=(12, 8)) * 0.02 + np.repeat(np.eye(8)[:2], 6, axis=0)
VECTORS = (PLACES / np.linalg.norm(PLACES, axis=1, keepdims=True)).astype(np.float32)


def test_near_ones_vote_for_their_own_answers():
    asked = [Question("q", "?", ("no", "yes"), None), Question("p", "?", ("left", "yes"), None)]
    shares = votes(asked, VECTORS[[0, 6]], REFERENCES, VECTORS)
    np.testing.assert_allclose(shares[0], [0, 1], atol=1e-3)
    np.testing.assert_allclose(shares[1], [0, 0], atol=1e-3)  # they say no, which is no choice of it


def test_a_flipped_label_is_the_most_suspicious():
    flipped = [replace(q, answer=2) if q.id == "b3" else q for q in REFERENCES]
    found = suspicion(flipped, VECTORS)
    assert found.argmax() == 9 and found[9] == pytest.approx(1, abs=1e-3)
    assert (np.delete(found, 9) < 0).all()
    (one,) = suspects(flipped, VECTORS)
    assert (one.id, one.answer, one.voted) == ("b3", "maybe", "no")


def test_its_own_label_has_no_say():
    twice = [*REFERENCES, Question("lonely", "?", ("left", "right"), 0)]
    vectors = np.concatenate([VECTORS, np.eye(8, dtype=np.float32)[[7]]])
    assert suspicion(twice, vectors)[-1] == 0, "nobody knows its choices"


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_told_of_one(count):
    assert suspicion(REFERENCES[:count], VECTORS[:count]).tolist() == [0.0] * count


class TestLearnFromConsistent:
    def of(self, questions):
        built = reference_set("olmoe").subset(torch.arange(len(questions)))
        return replace(built, questions=tuple(questions), embeddings=torch.from_numpy(VECTORS)).candidates(
            RemixSettings(learn_from="consistent")
        )

    def test_leaves_out_whom_others_vote_against(self):
        flipped = [replace(q, answer=2) if q.id == "b3" else q for q in REFERENCES]
        assert [q.id for q in self.of(flipped).questions] == [q.id for q in REFERENCES if q.id != "b3"]
        assert len(self.of(REFERENCES)) == 12

    def test_by_the_labels_that_are_taught(self):
        """Where they are drawn at random many are left out."""
        built = reference_set("olmoe").subset(torch.arange(12))
        drawn = replace(built, questions=tuple(REFERENCES), embeddings=torch.from_numpy(VECTORS))
        shuffled = drawn.candidates(RemixSettings(learn_from="consistent", labels="shuffled", seed=3))
        assert len(shuffled) == 6

    def test_none_left_is_said(self):
        each = [replace(q, answer=i % 2) for i, q in enumerate(REFERENCES[:2])]
        built = reference_set("olmoe").subset(torch.arange(2))
        opposed = replace(built, questions=tuple(each), embeddings=torch.from_numpy(VECTORS[:2]))
        with pytest.raises(DataError, match="Expected references that their nearest ones agree with, got none among 2"):
            opposed.candidates(RemixSettings(learn_from="consistent"))
