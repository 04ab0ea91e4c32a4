"""What references teach by themselves: that of full forward passes, computed once."""

from dataclasses import replace

import pytest
import torch
from models.families.checks import model_of
from remixing.test_remixer import remixer
from routing.naive import along, choice_scores, shared_model
from routing.toys import HashEmbedder, questions
from tokenizers import normalizers

from c3po_adaptive.losses import right_answer_loss
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.optimizers._question_features import KNOWN_AND_LOSS
from c3po_adaptive.optimizers._reference_artifacts import GRADIENT, change_by
from c3po_adaptive.optimizers.amortized import AmortizedNGD
from c3po_adaptive.optimizers.ngd import NGD
from c3po_adaptive.optimizers.oracle import Oracle
from c3po_adaptive.problem import ReferenceArtifact
from c3po_adaptive.references.artifacts import key_of, mean_flops, of_references
from c3po_adaptive.references.build import reference_set_of
from c3po_adaptive.selectors.fixed import Fixed
from c3po_adaptive.settings import RemixSettings
from c3po_adaptive.storage.kept import TensorStore
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer

TEST = questions(4, "t")


@pytest.mark.parametrize("loss", ["choices", "likelihood", "lead"])
@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe"])
def test_are_those_of_full_forwards(family, loss):
    model = shared_model(family)
    asked = questions(3)
    prompts, answers = [model.encode(q) for q in asked], [q.answer for q in asked]
    found = of_references(GRADIENT, model, prompts, answers, model.prefill, RemixSettings(loss=loss))
    for prompt, answer, gradient in zip(prompts, answers, found, strict=True):
        (state,) = model.prefill([prompt])
        own = state.own.clone()
        omega = own.clone().requires_grad_()
        # a hair's breadth from ω0 in every layer, so that the naive way mixes all experts, too
        edit = along(omega, own - 1e-12, len(prompt.ids) - 1)
        scores = choice_scores(model.model, prompt, edit)[None]
        (expected,) = torch.autograd.grad(right_answer_loss(scores, torch.tensor([answer]), loss).sum(), omega)
        torch.testing.assert_close(gradient, expected, atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("loss", ["choices", "likelihood", "lead"])
def test_the_loss_along_the_own_pathway_takes_no_pass(loss):
    both = ReferenceArtifact("both", lambda batch: torch.stack([batch.own_loss, batch.loss(batch.own)], 1))
    model, asked = shared_model("olmoe"), questions(4)
    prompts, answers, settings = [model.encode(q) for q in asked], [q.answer for q in asked], RemixSettings(loss=loss)
    found = of_references(both, model, prompts, answers, model.prefill, settings)
    torch.testing.assert_close(found[:, 0], found[:, 1], atol=1e-4, rtol=1e-4)
    where = (model, prompts, answers, model.prefill, settings)
    assert mean_flops(KNOWN_AND_LOSS, *where) == 0
    assert torch.equal(of_references(KNOWN_AND_LOSS, *where)[:, -1], found[:, 0])


def test_are_computed_once():
    model = model_of("olmoe")
    prompts, answers = [model.encode(q) for q in questions(5)], [q.answer for q in questions(5)]
    asked = []

    def states(new):
        asked.extend(new)
        return model.prefill(new)

    first = of_references(GRADIENT, model, prompts[:3], answers[:3], states, RemixSettings())
    second = of_references(GRADIENT, model, prompts, answers, states, RemixSettings())
    assert torch.equal(second[:3], first)
    assert asked == prompts
    of_references(GRADIENT, model, prompts[:1], answers[:1], states, RemixSettings(scope="last"))
    assert asked == [*prompts, prompts[0]]


def test_changes_are_those_of_the_oracle_on_the_reference_itself():
    """A reference that descends its own loss is a question whose label is known."""
    model, asked, oracle = model_of("olmoe"), questions(3), Oracle(of=NGD(steps=4, lr=0.02))
    prompts, answers = [model.encode(q) for q in asked], [q.answer for q in asked]
    descent = AmortizedNGD(steps=4, lr=0.02)
    settings = RemixSettings(head="full")
    found = of_references(change_by(descent), model, prompts, answers, model.prefill, settings)
    everywhere = Fixed(layers=tuple(range(len(model.sites))), experts=min(20, model.n_experts))
    run = remixer(model=model, references=None, optimizer=oracle, selector=everywhere)
    for answer, change in zip(run.answer(asked), found, strict=True):
        assert change.abs().max() > 1e-3
        torch.testing.assert_close(change, answer.pathway.weights - answer.pathway.own, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("variant", ["linear", "pathway"])
def test_a_question_takes_no_pass_but_its_answer(variant):
    for answer in remixer(optimizer=AmortizedNGD(lr=0.05, variant=variant)).answer(TEST):
        assert answer.pathway.changed().sum() == 2
        assert answer.cost.optimisation == answer.cost.references == answer.cost.attribution == 0
        assert answer.cost.answer > 0


def test_goes_where_ngd_goes():
    """On a random model: the same direction for the most part."""
    one, other = (remixer(optimizer=o(lr=0.02, steps=5)).answer(TEST) for o in (NGD, AmortizedNGD))
    moves = (
        [(a.pathway.weights - a.pathway.own).flatten() for a in one],
        [(b.pathway.weights - b.pathway.own).flatten() for b in other],
    )
    cosines = torch.stack([torch.cosine_similarity(a, b, dim=0) for a, b in zip(*moves, strict=True)])
    assert cosines.mean() > 0.3


class TestKept:
    def gradients(self, model, folder, n=3):
        asked, run = questions(n), []

        def states(new):
            run.extend(new)
            return model.prefill(new)

        prompts, answers = [model.encode(q) for q in asked], [q.answer for q in asked]
        found = of_references(GRADIENT, model, prompts, answers, states, RemixSettings(), folder=folder)
        return found, len(run)

    def test_in_a_folder_for_the_next_process(self, tmp_path):
        first, run = self.gradients(model_of("olmoe"), tmp_path)
        assert run == 3
        again, run = self.gradients(model_of("olmoe"), tmp_path, 4)
        assert run == 1, "only the new one"
        assert torch.equal(again[:3], first)
        assert len(list(tmp_path.glob("artifacts/*.safetensors"))) == 4, "values, and what they took"

    def test_once_for_all_sets_in_the_cache_that_share_references(self, tmp_path, monkeypatch):
        """A pool that grows, or another draw from the same source, computes what is new alone."""
        monkeypatch.setenv("C3PO_CACHE", str(tmp_path))
        ran = []
        for asked in (questions(4), questions(6)):
            model = model_of("olmoe")
            known = reference_set_of(asked, model, HashEmbedder(), "cloze")
            ran.append(self.gradients(model, known.artifacts_folder, len(known))[1])
        assert ran == [4, 2]
        beside = replace(known, folder=known.save(tmp_path / "mine"))
        assert beside.artifacts_folder == tmp_path / "mine", "a set of one's own keeps its own"
        assert beside.subset(torch.tensor([0])).artifacts_folder is None

    def test_sets_of_the_same_weights_are_told_apart_by_configuration_and_tokenizer(self, tmp_path, monkeypatch):
        monkeypatch.setenv("C3PO_CACHE", str(tmp_path))
        asked, alike, other, begun = questions(4), *(tiny_tokenizer() for _ in range(3))
        other.add_tokens(["question"])
        begun.backend_tokenizer.normalizer = normalizers.Prepend("a ")
        made = [
            ({}, alike),
            ({"num_experts_per_tok": 1}, alike),
            ({"rms_norm_eps": 0.1}, alike),
            ({}, other),
            ({}, begun),
        ]
        models = [RoutedModel(tiny_moe("olmoe", **settings), tokenizer) for settings, tokenizer in made]
        assert len({model.fingerprint for model in models}) == 1
        again = RoutedModel(tiny_moe("olmoe"), tiny_tokenizer())
        sets = [reference_set_of(asked, model, HashEmbedder(), "cloze") for model in [*models, again]]
        assert sets[0].folder == sets[-1].folder
        assert len({known.folder for known in sets}) == len(models)
        assert not torch.equal(sets[0].pathways, sets[1].pathways)

    def test_not_for_another_model_or_label(self, tmp_path):
        self.gradients(model_of("olmoe"), tmp_path)
        assert self.gradients(model_of("qwen2_moe"), tmp_path)[1] == 3
        store = TensorStore(tmp_path)
        prompt = model_of("olmoe").encode(questions(1)[0])
        store.add([key_of(prompt, 0)], torch.ones(1, 2, 3))
        assert key_of(prompt, 0) in store
        assert key_of(prompt, 1) not in store

    def test_where_nothing_can_be_written(self, tmp_path):
        (tmp_path / "artifacts").write_text("in the way")
        with pytest.warns(UserWarning, match="Could not keep .*computed again next time"):
            found, _ = self.gradients(model_of("olmoe"), tmp_path)
        assert found.shape[0] == 3


def test_what_they_take_is_counted_once():
    """A gradient is at least the tail's forward pass, and less than three of the whole question's."""
    model, asked = shared_model("olmoe"), questions(4)
    prompts, answers = [model.encode(q) for q in asked], [q.answer for q in asked]
    settings = RemixSettings()
    each = [
        mean_flops(GRADIENT, model, [p], [a], model.prefill, settings) for p, a in zip(prompts, answers, strict=True)
    ]
    assert mean_flops(GRADIENT, model, prompts, answers, model.prefill, settings) == pytest.approx(sum(each) / 4)
    for prompt, flops in zip(prompts, each, strict=True):
        whole = model.plain_work(prompt)
        assert whole == model.prefill([prompt])[0].work
        assert 0.2 * whole.flops < flops < 3 * whole.flops
