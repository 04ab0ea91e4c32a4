"""The toys that the contracts stand on; what the contracts catch is in ``test_findings.py``."""

from dataclasses import dataclass
from typing import ClassVar
from unittest import SkipTest

import pytest
import torch

from c3po_adaptive.errors import ShapeError, UnknownNameError
from c3po_adaptive.optimizers.base import PathwayOptimizer
from c3po_adaptive.optimizers.ngd import NGD
from c3po_adaptive.problem import LabeledProblem
from c3po_adaptive.testing import OptimizerContract, tiny_moe, tiny_tokenizer, toy_problem, write_tiny_checkpoint


class TestToyProblem:
    def test_shapes(self):
        problem = toy_problem(B=2, L=3, E=6, K=4, top_k=2, core=3, references=9, labeled=True)
        assert isinstance(problem, LabeledProblem)
        assert problem.own.shape == problem.router.shape == problem.selection.mask.shape == (2, 3, 6)
        assert problem.neighbour_pathways.shape == (2, 4, 3, 6)
        assert problem.reference_pathways.shape == (9, 3, 6)
        for loss in (problem.loss, problem.entropy, problem.label_loss):
            assert loss(problem.own).shape == (2,)

    def test_is_routing(self):
        problem = toy_problem()
        assert ((problem.own > 0).sum(-1) == 4).all()
        assert (problem.own.sum(-1) < 1).all(), "as in OLMoE, the used experts' weights do not sum to one"
        assert torch.equal(problem.selection.layers[0], torch.tensor([False] * 4 + [True] * 2))
        assert (problem.selection.mask.sum(-1)[problem.selection.layers] == 8).all()

    def test_minimum_is_the_neighbours_mean(self):
        problem = toy_problem()
        mean = (problem.neighbours.weight[..., None, None] * problem.neighbour_pathways).sum(1).requires_grad_()
        (gradient,) = torch.autograd.grad(problem.loss(mean).sum(), mean)
        torch.testing.assert_close(gradient, torch.zeros_like(mean), atol=1e-6, rtol=0)

    def test_alone_and_only(self):
        whole, alone = toy_problem(), toy_problem(alone=[1])
        assert torch.equal(alone.own, whole.own)
        assert torch.equal(alone.neighbours.index[0], whole.neighbours.index[0])
        assert (alone.neighbours.index[1] == -1).all()
        assert (alone.neighbour_pathways[1] == 0).all()
        assert alone.loss(alone.own)[1] == 0
        for b in range(3):
            one = toy_problem(only=b)
            assert torch.equal(one.own, whole.own[b : b + 1])
            assert torch.equal(one.loss(one.own), whole.loss(whole.own)[b : b + 1])
            assert torch.equal(one.entropy(one.own), whole.entropy(whole.own)[b : b + 1])

    def test_batch_must_be_whole(self):
        problem = toy_problem()
        with pytest.raises(ShapeError, match=r"\(3, 6, 24\), got \(2, 6, 24\)"):
            problem.loss(problem.own[:2])


class Excepted(OptimizerContract):
    """One test is known to fail."""

    exceptions: ClassVar = {"test_layers_keep_their_mass": "it is meant to"}


@dataclass(frozen=True)
class Doubled(PathwayOptimizer):
    """Twice the mass."""

    name: ClassVar[str] = "doubled"

    def optimize(self, problem):
        return 2 * problem.own


def test_exceptions_are_tests_that_fail():
    with pytest.raises(SkipTest, match="it is meant to"):
        Excepted().test_layers_keep_their_mass(Doubled())
    with pytest.raises(AssertionError, match="it passed; take it out of exceptions"):
        Excepted().test_layers_keep_their_mass(NGD(steps=1))
    with pytest.raises(AttributeError, match="test_absent"):
        type("TestMisspelt", (OptimizerContract,), {"exceptions": {"test_absent": "why"}})


@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe"])
class TestTinyModels:
    def test_routing_is_not_flat_and_differs_between_tokens(self, family):
        model, ids = tiny_moe(family), tiny_tokenizer()("Which object can float?", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = model(ids, output_router_logits=True)
        assert not model.training
        assert model.dtype == torch.float32
        assert out.logits.shape == (1, ids.shape[1], 128)
        assert len(out.router_logits) == 3
        for logits in out.router_logits:
            assert logits.shape[-1] == 8
            assert logits.softmax(-1).amax(-1).mean() > 0.3, "eight experts alike would have 0.125 each"
            assert len(logits.topk(2).indices.sort(-1).values.unique(dim=0)) > 3

    def test_settled_by_seed_alone(self, family):
        state = torch.get_rng_state()
        one, same, other = (tiny_moe(family, seed).state_dict() for seed in (0, 0, 1))
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(one[key], same[key]) for key in one)
        assert not all(torch.equal(one[key], other[key]) for key in one)

    def test_checkpoint_is_read_back(self, family, tmp_path):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = write_tiny_checkpoint(tmp_path / "tiny", family, num_hidden_layers=2)
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        ids = tokenizer("A wooden boat.", return_tensors="pt")["input_ids"]
        assert ids.tolist() == [tiny_tokenizer()("A wooden boat.")["input_ids"]]
        expected = tiny_moe(family, num_hidden_layers=2)
        assert all(torch.equal(tensor, expected.state_dict()[key]) for key, tensor in model.state_dict().items())
        with torch.no_grad():
            torch.testing.assert_close(model(ids).logits, expected(ids).logits)
        assert tokenizer.pad_token == "<pad>"
        assert tokenizer.eos_token == "<eos>"


def test_unknown_family():
    with pytest.raises(UnknownNameError, match="a model type that transformers knows, got 'gpt'; see c3po models"):
        tiny_moe("gpt")


def test_tokenizer_round_trips_ascii():
    tokenizer = tiny_tokenizer()
    text = "".join(map(chr, range(32, 127))) + "\n\tA  b .\n\n1's"
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert max(ids) < 128
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer(" b")["input_ids"] == tokenizer("a b")["input_ids"][1:], "a continuation's tokens stand alone"
    padded = tokenizer(["a", "abc"], padding=True)["input_ids"]
    assert len(padded[0]) == 3
    assert tokenizer.pad_token_id in padded[0]
