"""The toys that the contracts stand on, and that the contracts catch what breaks them."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from c3po_adaptive.errors import ShapeError, UnknownNameError
from c3po_adaptive.optimizers.base import PathwayOptimizer
from c3po_adaptive.problem import LabeledProblem
from c3po_adaptive.selectors.base import LayerSelector
from c3po_adaptive.testing import (
    OptimizerContract,
    SelectorContract,
    tiny_moe,
    tiny_tokenizer,
    toy_problem,
    write_tiny_checkpoint,
)
from c3po_adaptive.types import Selection


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


@dataclass(frozen=True)
class Careless(PathwayOptimizer):
    """Every layer of every sample to the mean of the batch, and the label peeped at."""

    name: ClassVar[str] = "careless"

    def optimize(self, problem):
        if isinstance(problem, LabeledProblem):
            problem.label_loss(problem.own)
        problem.own.mul_(2)
        return problem.own.mean(0, keepdim=True).expand_as(problem.own) - 1 + torch.rand(())


CAUGHT = (
    "test_leaves_alone_what_is_not_selected",
    "test_layers_keep_their_mass",
    "test_not_negative",
    "test_mixes_only_own_and_selected_experts",
    "test_inputs_untouched",
    "test_no_neighbours_no_change",
    "test_same_seed_same_result",
    "test_batch_equals_one_by_one",
    "test_does_not_look_at_the_label",
)


class TestContractCatches(OptimizerContract):
    """An exception that does not fail is an error, so this passes only if the contract refuses all of it."""

    exceptions = dict.fromkeys(CAUGHT, "meant to be caught")

    @pytest.fixture
    def optimizer(self):
        return Careless()


@dataclass(frozen=True)
class CarelessSelector(LayerSelector):
    """The first layer; with the label peeped at, the input altered, no mask, and scores that are none."""

    name: ClassVar[str] = "careless"

    def select(self, problem):
        if isinstance(problem, LabeledProblem):
            problem.label_loss(problem.own)
        problem.own.mul_(2)
        mask = torch.zeros_like(problem.own)
        mask[:, 0] = 1
        return Selection(mask, torch.full(mask.shape[:2], torch.nan))


CAUGHT_IN_SELECTORS = (
    "test_mask",
    "test_scores",
    "test_inputs_untouched",
    "test_does_not_look_at_the_label",
)


class TestSelectorContractCatches(SelectorContract):
    exceptions = dict.fromkeys(CAUGHT_IN_SELECTORS, "meant to be caught")

    @pytest.fixture
    def selector(self):
        return CarelessSelector()


@dataclass(frozen=True)
class OfTheBatch(LayerSelector):
    """The layer where the batch's routing is highest."""

    name: ClassVar[str] = "of-the-batch"

    def select(self, problem):
        mask = torch.zeros_like(problem.own, dtype=torch.bool)
        mask[:, problem.own.amax((0, 2)).argmax()] = True
        return Selection(mask)


class TestSelectorContractCatchesWhatMixesSamples(SelectorContract):
    exceptions: ClassVar = {"test_batch_equals_one_by_one": "meant to be caught"}

    @pytest.fixture
    def selector(self):
        return OfTheBatch()


def test_exceptions_must_name_tests():
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
