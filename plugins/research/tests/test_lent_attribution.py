"""A selector with reference data of its own, outside the core: computed once, kept with the set, and resumed."""

import inspect

import pytest
import torch
from c3po_research import lent_attribution
from c3po_research.lent_attribution import LentAttribution
from models.families.checks import model_of
from remixing.test_remixer import remixer
from routing.toys import HashEmbedder, questions

from c3po_adaptive.optimizers import AmortizedNGD
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.registry import new_registry
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.testing import toy_problem

LENT = LentAttribution(n=2, experts=6)


def test_scores_are_those_of_the_neighbours():
    """The toy's references start from one pathway, and their loss is half the squared distance to their own."""
    problem = toy_problem(selected=None)
    middle = problem.own.mean(0)
    each = (middle * (middle - problem.neighbour_pathways)).abs().sum(-1)
    expected = (problem.neighbours.weight.unsqueeze(-1) * each).sum(1)
    torch.testing.assert_close(LENT.score(problem)[0], expected)


class TestKept:
    @pytest.fixture
    def folder(self, tmp_path):
        return build_reference_set(model_of("olmoe"), questions(24), HashEmbedder()).save(tmp_path / "set")

    def answered(self, folder, monkeypatch, selector=LENT):
        """The layers of some answers, and how many references were prefilled for them."""
        model, run = model_of("olmoe"), []
        original = model.prefill
        monkeypatch.setattr(model, "prefill", lambda p, **o: [run.append(len(p)), original(p, **o)][1])
        strategies = {"selector": selector, "retriever": FaissKNN(k=9)}
        c3po = remixer(model=model, references=ReferenceSet.load(folder), optimizer=AmortizedNGD(steps=0), **strategies)
        return [a.layer_scores for a in c3po.answer(questions(3, "t"))], sum(run) - 3

    def test_with_the_set_for_the_next_process(self, folder, monkeypatch):
        first, prefilled = self.answered(folder, monkeypatch)
        assert prefilled > 3
        again, prefilled = self.answered(folder, monkeypatch)
        assert prefilled == 0
        assert again == first

    def test_what_an_interruption_leaves_is_not_computed_again(self, folder, monkeypatch):
        from c3po_adaptive.references import artifacts
        from c3po_adaptive.storage import kept

        monkeypatch.setattr(artifacts, "BATCH", 2)
        monkeypatch.setattr(kept, "SHARD", 2)
        whole, prefilled = self.answered(folder, monkeypatch)
        for file in sorted(folder.glob("artifacts/*.safetensors"))[:2]:
            file.unlink()
        again, rest = self.answered(folder, monkeypatch)
        assert 0 < rest < prefilled
        assert again == whole

    def test_of_another_text_of_the_plugin_is_another(self, folder, tmp_path, monkeypatch):
        found, text = [], inspect.getsource(lent_attribution)
        for own in (text, text.replace(".abs().sum(-1)\n\n\nBY", ".sum(-1)\n\n\nBY")):
            (tmp_path / "edited.py").write_text(own)
            edited = new_registry(installed=False)
            edited.load_file(tmp_path / "edited.py")
            selector = edited.create("selector", {"name": "lent-attribution", "n": 2, "experts": 6})
            found.append(self.answered(folder, monkeypatch, selector))
        assert found[0][0] != found[1][0]
        assert found[1][1] == found[0][1], "computed anew"
