"""A model that is changed between two answers, or is being trained: the second is of the model as it is then."""

import copy
import gc
import pickle
import warnings
import weakref
from dataclasses import replace

import peft
import pytest
import torch
from routing.naive import choice_scores, routed_model
from routing.toys import HashEmbedder, questions, reference_set
from torch import nn

from c3po_adaptive import Optimizer, read_routing, replaying
from c3po_adaptive.errors import DataError, ShapeError
from c3po_adaptive.models.fingerprint import fingerprint
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.models.traced import likelihoods, record, replay
from c3po_adaptive.optimizers._reference_artifacts import GRADIENT
from c3po_adaptive.references.artifacts import of_references
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.model_embedding import ModelEmbedder
from c3po_adaptive.references.prefill_store import build_store, open_store
from c3po_adaptive.routing.dense_experts import DENSE
from c3po_adaptive.routing.modules import forget_modules, modules_of
from c3po_adaptive.routing.whole_prompts import WholePrompts
from c3po_adaptive.settings import DEFAULTS
from c3po_adaptive.testing import tiny_moe
from c3po_adaptive.types import Question

TEXT = "Which object can float on water?"
CHOICES = ["a stone", "a wooden boat"]


def trained(model, step):
    batch = model.tokenizer([TEXT, "Stones sink."], return_tensors="pt", padding=True)
    routes = read_routing(model, batch).experts
    whole = model.model.requires_grad_(True).train()
    optimizer = step(whole.parameters())
    for _ in range(2):
        with replaying(whole, routes):
            whole(**batch, labels=batch["input_ids"], use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    whole.requires_grad_(False)


def first(model):
    return model.model.get_decoder().layers[0]


def new_data(model):
    gate = first(model).mlp.gate
    gate.weight.data = gate.weight.data.flip(0)


def put_back(model):
    """Another parameter, which may get the number and the memory of the one before."""
    gate = first(model).mlp.gate
    for _ in range(2):
        new = gate.weight.detach().roll(1, 0)
        del gate.weight
        gate.weight = nn.Parameter(new, requires_grad=False)


def other_weights(model):
    model.model.load_state_dict(tiny_moe("olmoe", seed=1).state_dict())


def other_module(model):
    first(model).mlp = tiny_moe("olmoe", seed=1).get_decoder().layers[0].mlp.eval().requires_grad_(False)


def more_experts(model):
    first(model).mlp.gate.top_k = 5


def doubled(model):
    """Half precision and back: the same tensors, of other numbers."""
    model.model.to(torch.bfloat16).to(torch.float32)


CHANGES = {
    "SGD": lambda model: trained(model, lambda weights: torch.optim.SGD(weights, lr=0.5)),
    "fused AdamW": lambda model: trained(model, lambda weights: torch.optim.AdamW(weights, lr=0.05, fused=True)),
    "dtype": lambda model: model.model.to(torch.bfloat16),
    "dtype and back": doubled,
    "new data": new_data,
    "another parameter": put_back,
    "load_state_dict": other_weights,
    "another module": other_module,
    "top_k": more_experts,
}


def answers(model):
    """Through each door that keeps something."""
    prompt = model.encode_text(TEXT)
    (written,) = model.written([prompt])
    state = model.prefill([prompt])[0]
    return model.score_choices(TEXT, CHOICES), model.forward(TEXT).logits.float(), state.own, written.text


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_answers_are_those_of_the_model_as_it_is(change):
    model = routed_model("olmoe")
    before, whose = answers(model), fingerprint(model)
    change(model)
    assert fingerprint(model) != whose
    found, expected = answers(model), answers(RoutedModel(model.model, model.tokenizer))
    assert not torch.equal(found[0], before[0])
    assert found[3] == expected[3]
    for one, other in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_narrow_experts_are_laid_side_by_side_anew():
    """By a fused step, which does not count as a write, before they are frozen again."""
    model = routed_model("olmoe")
    model.model.set_experts_implementation(DENSE)
    model.score_choices(TEXT, CHOICES)
    CHANGES["fused AdamW"](model)
    dense = model.score_choices(TEXT, CHOICES)
    model.model.set_experts_implementation("eager")
    torch.testing.assert_close(dense, choice_scores_of(model), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def choice_scores_of(model):
    """By plain full forward passes."""
    return choice_scores(model.model, model.encode(QUESTION))


def test_the_bias_that_routers_select_by_counts():
    model = routed_model("deepseek_v3")
    before = model.score_choices(TEXT, CHOICES)
    bias = next(buffer for name, buffer in model.model.named_buffers() if "correction_bias" in name)
    bias += torch.linspace(-3, 3, len(bias))
    assert not torch.equal(model.score_choices(TEXT, CHOICES), before)


@pytest.fixture(params=[False, True], ids=["linear", "fused"])
def adapted(request):
    """A model that answered, and was then given two adapters."""
    model = routed_model("olmoe")
    base = model.score_choices(TEXT, CHOICES)
    fused = ["mlp.experts.down_proj", "mlp.gate.weight"] if request.param else None
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], target_parameters=fused)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # PEFT asks transformers for what will be called otherwise
        torch.manual_seed(0)
        wrapped = peft.get_peft_model(model.model, config)
        if not request.param:  # PEFT has one adapter alone for parameters
            wrapped.add_adapter("second", config)
        with torch.no_grad():
            for name, weight in wrapped.named_parameters():
                if "lora_B" in name:
                    weight.normal_(0, 0.5)
    return model, base, wrapped


def test_adapters_of_peft_count_and_whether_they_are_on(adapted):
    model, base, wrapped = adapted
    on, whose = model.score_choices(TEXT, CHOICES), fingerprint(model)
    assert not torch.equal(on, base)
    torch.testing.assert_close(on, choice_scores_of(model), atol=1e-4, rtol=1e-4)
    states = len(model._states)
    assert torch.equal(model.score_choices(TEXT, CHOICES), on)
    assert len(model._states) == states == 1, "running it is no change"
    with wrapped.disable_adapter():
        torch.testing.assert_close(model.score_choices(TEXT, CHOICES), base, atol=1e-5, rtol=1e-5)
        assert fingerprint(model) != whose
    assert torch.equal(model.score_choices(TEXT, CHOICES), on)
    assert fingerprint(model) == whose
    if "second" in wrapped.peft_config:
        wrapped.set_adapter("second")
        assert not torch.equal(model.score_choices(TEXT, CHOICES), on)
        wrapped.set_adapter("default")
    kept = model.snapshot
    wrapped.merge_adapter()
    merged = model.score_choices(TEXT, CHOICES)
    assert model.snapshot is not kept, "answered anew, though scores differ by rounding at most"
    torch.testing.assert_close(merged, on, atol=1e-4, rtol=1e-4)
    assert fingerprint(model) != whose
    wrapped.unmerge_adapter()
    wrapped.unload()
    torch.testing.assert_close(model.score_choices(TEXT, CHOICES), base, atol=1e-4, rtol=1e-4)


def test_what_a_run_leaves_is_no_change():
    model = routed_model("olmoe")
    state = model.prefill([model.encode_text(TEXT)])[0]
    model.generate(TEXT, max_new_tokens=2)
    with torch.no_grad(), replaying(model, read_routing(model, TEXT).experts):
        model.model(model.tokenizer([TEXT], return_tensors="pt")["input_ids"], use_cache=False)
    assert model.prefill([model.encode_text(TEXT)])[0] is state


def test_it_may_be_swapped_as_by_wrapper_subclasses():
    model = routed_model("olmoe")
    before = model.score_choices(TEXT, CHOICES)
    weight = first(model).mlp.gate.weight
    torch.utils.swap_tensors(weight, nn.Parameter(weight.detach().flip(0), requires_grad=False))
    after = model.score_choices(TEXT, CHOICES)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, choice_scores_of(model), atol=1e-5, rtol=1e-5)


def test_what_does_not_change_what_it_computes_leaves_it_the_same_model():
    model = routed_model("gemma4")  # its decoder layers route
    before = fingerprint(model)
    first(model).gradient_checkpointing = True  # as its gradient_checkpointing_enable() does
    first(model)._noted = 1
    forget_modules(model.model)
    assert fingerprint(model) == before


def test_layers_may_be_compiled():
    model = routed_model("olmoe")
    before = model.score_choices(TEXT, CHOICES)
    layers = model.model.get_decoder().layers
    layers[0] = torch.compile(layers[0], backend="eager")
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(model.score_choices(TEXT, CHOICES), before)


def test_a_model_that_refers_to_itself_is_let_go_of_and_so_is_what_was_taken_out():
    model = routed_model("olmoe")
    whole = model.model
    whole.forward = whole.forward  # bound to it, as what torch.compile and accelerate put there
    model.score_choices(TEXT, CHOICES)
    fingerprint(model)
    read_routing(whole, model.tokenizer([TEXT], return_tensors="pt"))
    taken = weakref.ref(first(model).mlp)
    other_module(model)
    model.score_choices(TEXT, CHOICES)
    gc.collect()
    assert taken() is None
    gone = weakref.ref(whole)
    del model, whole
    gc.collect()
    assert gone() is None


def test_copies_and_pickles_have_their_own_modules():
    model = routed_model("olmoe")
    before, whole = model.score_choices(TEXT, CHOICES), model.model
    for other in (copy.deepcopy(whole), copy.copy(whole), pickle.loads(pickle.dumps(whole))):
        assert modules_of(other) is not modules_of(whole)
        assert torch.equal(RoutedModel(other, model.tokenizer).score_choices(TEXT, CHOICES), before)


def test_what_is_not_seen_can_be_forgotten():
    model = routed_model("olmoe")
    model.model.set_experts_implementation(DENSE)
    before, whose, c3po = model.score_choices(TEXT, CHOICES), fingerprint(model), optimizer_of(model)
    for layer in model.model.get_decoder().layers:
        layer.mlp.experts.down_proj.data.mul_(-3)
    assert torch.equal(model.score_choices(TEXT, CHOICES), before), "see the docstring of Snapshot"
    model.forget()
    torch.testing.assert_close(model.score_choices(TEXT, CHOICES), choice_scores_of(model), atol=1e-5, rtol=1e-5)
    assert not torch.equal(model.score_choices(TEXT, CHOICES), before)
    assert fingerprint(model) != whose
    with pytest.raises(DataError, match="Expected the model as it was when its references were read"):
        c3po.answer(TEXT, CHOICES)


def test_a_copy_is_a_model_of_its_own():
    model = routed_model("olmoe")
    before = model.score_choices(TEXT, CHOICES)
    other = copy.deepcopy(model)
    assert torch.equal(other.score_choices(TEXT, CHOICES), before)
    other_weights(other)
    assert not torch.equal(other.score_choices(TEXT, CHOICES), before)
    assert torch.equal(model.score_choices(TEXT, CHOICES), before)


def test_a_changed_router_is_another_model_and_put_back_the_same():
    model = routed_model("olmoe")
    before = fingerprint(model)
    more_experts(model)
    assert fingerprint(model) != before
    early = tiny_moe("olmoe")
    early.get_decoder().layers[0].mlp.gate.top_k = 5
    for same in (copy.deepcopy(model), RoutedModel(early, model.tokenizer)):
        assert fingerprint(same) == fingerprint(model), "whenever it was changed, and wherever it is"
    first(model).mlp.gate.top_k = 2
    assert fingerprint(model) == before
    assert record(model, TEXT).experts.shape[-1] == 2
    for layer in model.model.get_decoder().layers:
        layer.mlp.gate.top_k = 3
    assert record(model, TEXT).experts.shape[-1] == 3
    assert read_routing(model, TEXT).experts.shape[-1] == 3


class TestReferences:
    def test_an_optimizer_refuses_to_mix(self):
        model = routed_model("olmoe")
        c3po = optimizer_of(model)
        expected, problem = c3po.answer(TEXT, CHOICES), c3po.problem(TEXT, CHOICES)
        held = copy.deepcopy(model.model.state_dict())
        other_weights(model)
        for ask in (c3po.answer, c3po.problem, c3po.explain):
            with pytest.raises(DataError, match="Expected the model as it was when its references were read"):
                ask(TEXT, CHOICES)
        with pytest.raises(DataError, match="Expected a reference set built with model"):
            optimizer_of(model)
        with pytest.raises(DataError, match="make the problem anew"):
            problem.loss(problem.own)
        model.model.load_state_dict(held)
        assert c3po.answer(TEXT, CHOICES).scores == expected.scores, "it is the same model again"

    def test_one_without_references_goes_on(self):
        model = routed_model("olmoe")
        c3po = Optimizer(model, optimizer="none", selector={"name": "fixed", "n": 2}, embedder=HashEmbedder())
        before = c3po.answer(TEXT, CHOICES).scores
        other_weights(model)
        after = c3po.answer(TEXT, CHOICES).scores
        assert after != before
        assert after == tuple(routed_model("olmoe", seed=1).score_choices(TEXT, CHOICES).tolist())

    def test_the_models_own_embeddings_are_made_anew(self):
        model = routed_model("olmoe")
        embedder = ModelEmbedder(model)
        before, revision = embedder.encode([TEXT]), embedder.revision
        other_weights(model)
        after = embedder.encode([TEXT])
        assert embedder.revision != revision
        assert (after != before).any()
        assert (after == ModelEmbedder(routed_model("olmoe", seed=1)).encode([TEXT])).all()

    def test_what_references_teach_is_computed_anew(self):
        model, asked = routed_model("olmoe"), questions(3)
        prompts, right = [model.encode(q) for q in asked], [q.answer for q in asked]

        def taught(model):
            return of_references(GRADIENT, model, prompts, right, model.prefill, DEFAULTS)

        before = taught(model)
        other_weights(model)
        after = taught(model)
        assert not torch.equal(after, before)
        assert torch.equal(after, taught(routed_model("olmoe", seed=1)))

    def test_states_on_disk_are_not_those_of_other_weights(self, tmp_path):
        model, references = routed_model("olmoe"), reference_set("olmoe")
        build_store(references, model, tmp_path / "warm")
        store = open_store(references, model, tmp_path / "warm", "cloze")
        (kept,) = store.states(store.prompts[:1])
        held = copy.deepcopy(model.model.state_dict())
        other_weights(model)
        with pytest.raises(DataError, match=r"Expected the model that the states in .*warm are of"):
            store.states(store.prompts[:1])
        model.model.load_state_dict(held)
        (again,) = store.states(store.prompts[:1])
        assert again is not kept, "it was let go of, as it may be on another device"
        assert torch.equal(again.token_scores, kept.token_scores)


QUESTION = Question("q", TEXT, tuple(CHOICES))


def never(routing):
    """A rule that only looks on."""


def optimizer_of(model):
    return Optimizer(model, reference_set("olmoe"), embedder=HashEmbedder(), selector={"name": "fixed", "n": 2})


def along_another(model):
    pathway = model.pathway(TEXT)
    return model.score_choices(TEXT, CHOICES, replace(pathway, router=pathway.weights.flip(-1)))


DOORS = {
    "score_choices": lambda model: model.score_choices(TEXT, CHOICES),
    "along a pathway": along_another,
    "along a rule": lambda model: model.score_choices(TEXT, CHOICES, never),
    "forward": lambda model: model.forward(TEXT).logits,
    "generate": lambda model: model.generate(TEXT, max_new_tokens=6, do_sample=False),
    "written": lambda model: model.written([model.encode(QUESTION)])[0].text,
    "pathway": lambda model: model.pathway(TEXT).weights,
    "tails along a rule": lambda model: model.ruled([model.encode(QUESTION)], never, start=0)[0].scores().detach(),
    "likelihoods": lambda model: model.likelihoods([model.encode(QUESTION)])[0].total,
    "record": lambda model: record(model, TEXT).weights,
    "record what is generated": lambda model: record(model, TEXT, generate=4).tokens,
    "replay": lambda model: replay(model, record(model, TEXT)),
    "a trace's likelihoods": lambda model: likelihoods(model, record(model, TEXT)),
    "Optimizer": lambda model: optimizer_of(model).answer(TEXT, CHOICES).scores,
    "a problem": lambda model: optimizer_of(model).problem(TEXT, CHOICES).own_scores,
    "references": lambda model: build_reference_set(model, questions(3), HashEmbedder()).pathways,
    "whole prompts": lambda model: WholePrompts(model.model, model.flops).scores([model.encode(QUESTION)]).detach(),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_model_in_training_answers_without_dropout(door):
    model = routed_model("olmoe", attention_dropout=0.5)
    model.model.train()
    first(model).mlp.eval()
    modes = [module.training for module in model.model.modules()]
    found = door(model)
    assert [module.training for module in model.model.modules()] == modes, "each has its own mode again"
    expected = door(routed_model("olmoe", attention_dropout=0.5))
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


def test_a_part_in_training_is_enough_and_errors_put_its_mode_back():
    model = routed_model("olmoe", attention_dropout=0.5)
    expected = model.forward(TEXT).logits
    attention = first(model).self_attn.train()
    with model.answering():
        assert not attention.training
        with pytest.raises(ShapeError), model.answering():
            model.score_choices(TEXT, CHOICES, model.pathway([TEXT, TEXT]))
        assert not attention.training, "only the outermost block puts it back"
    assert attention.training
    model._states.clear()
    assert torch.equal(model.forward(TEXT).logits, expected)


def test_routing_is_read_in_the_mode_that_the_model_is_in():
    """It is for training, with gradients."""
    model = routed_model("olmoe", attention_dropout=0.5)
    expected = read_routing(model, TEXT).logits
    model.model.train()
    assert not torch.equal(read_routing(model, TEXT).logits, expected)
    assert model.model.training
