"""Shards of reference sets and of their states: the same wherever they are computed, in whatever order."""

import pickle

import pytest
import torch
from routing.toys import questions

from c3po_adaptive.errors import DataError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.references.prefill_store import build_store
from c3po_adaptive.study.executor import done
from c3po_adaptive.study.reference_shards import build_set_by, build_store_by
from c3po_adaptive.testing import write_tiny_checkpoint


class Elsewhere:
    """Computes the last piece first, by a worker that was sent there."""

    def __init__(self):
        self.pieces = []

    def map(self, compute, pieces):
        there = pickle.loads(pickle.dumps(compute))  # without the model that is loaded here
        there.data = compute.data  # which is sent with it
        for piece in reversed(list(pieces)):
            self.pieces.append(piece.batch)
            yield done(there, piece)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    write_tiny_checkpoint(tmp_path / "model", "olmoe")
    return tmp_path


@pytest.fixture
def model(place):
    return load_moe_model(str(place / "model"))


def load(place):
    return {"model": str(place / "model")}


def built(model, asked, **how):
    return build_reference_set(model, asked, default_embedder(), **how)


def test_a_set_is_the_same_in_whatever_order(place, model):
    asked, executor = questions(70), Elsewhere()
    there = build_set_by(executor, model, load(place), asked)
    here = built(model, asked)
    assert executor.pieces == [2, 1, 0]
    assert torch.equal(here.pathways, there.pathways)
    assert torch.equal(here.embeddings, there.embeddings)
    assert (here.scores, here.card) == (there.scores, there.card)


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_states_are_the_same_in_whatever_order(place, model, precision):
    references = built(model, questions(150))
    asked, executor = references.successes.questions, Elsewhere()
    assert len(asked) > 32, "more than one shard"
    there = build_store_by(executor, model, load(place), references, place / "there", precision=precision)
    dtype = None if precision == "auto" else torch.bfloat16
    here = build_store(references, model, place / "here", dtype=dtype)
    assert executor.pieces == list(range(-(-len(asked) // 32)))[::-1]
    prompts = [model.encode(q) for q in asked]
    for one, other in zip(here.states(prompts), there.states(prompts), strict=True):
        assert torch.allclose(one.final, other.final, atol=1e-5 if dtype is None else 0.05)
        assert torch.allclose(one.router, other.router, atol=1e-5)


def test_another_model_is_refused(place, model):
    write_tiny_checkpoint(place / "other", "olmoe", seed=1)
    with pytest.raises(DataError, match="got another model in this process"):
        build_set_by(Elsewhere(), model, {"model": str(place / "other")}, questions(3))
