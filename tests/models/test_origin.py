"""Pathways that say whose they are: saved, read back, and refused by every other model."""

import json
from dataclasses import replace

import pytest
import torch
from routing.naive import moved, routed_model, shared_model
from routing.toys import questions

from c3po_adaptive.errors import DataError, SettingError, ShapeError
from c3po_adaptive.models.fingerprint import fingerprint
from c3po_adaptive.models.provenance import stack_pathways
from c3po_adaptive.storage.identity import digest
from c3po_adaptive.types import Pathway

TEXT, TEXTS = "Which object can float on water?", ["Wood floats.", "A stone", "Iron sinks"]


@pytest.fixture
def model():
    return shared_model("olmoe")


@pytest.fixture
def pathway(model):
    return model.with_origin(moved(model.pathway(TEXT)), TEXT)


@pytest.fixture
def other():
    """The same routers and shapes, one weight elsewhere."""
    model = routed_model("olmoe")
    with torch.no_grad():
        model.model.lm_head.weight[0, 0] += 1
    return model


class TestRoundTrip:
    @pytest.mark.parametrize("changes", [{}, {"scope": "last"}, {"top_k": 2}], ids=str)
    def test_file(self, model, pathway, tmp_path, changes):
        pathway = replace(pathway, **changes)
        read = Pathway.load(pathway.save(tmp_path / "omega.safetensors"))
        assert torch.equal(read.weights, pathway.weights) and torch.equal(read.own, pathway.own)
        assert (read.layers, read.scope, read.top_k) == (pathway.layers, pathway.scope, pathway.top_k)
        assert read.origin == pathway.origin
        assert torch.equal(model.forward(TEXT, read).logits, model.forward(TEXT, pathway).logits)
        assert [p.name for p in tmp_path.iterdir()] == ["omega.safetensors"]

    def test_folder(self, cards, pathway, tmp_path):
        folder = pathway.save_pretrained(tmp_path / "omega", license="mit")
        assert {p.name for p in folder.iterdir()} == {"README.md", "pathway.safetensors"}
        assert "license: mit" in (folder / "README.md").read_text().split("---")[1]
        read = Pathway.from_pretrained(folder)
        assert torch.equal(read.weights, pathway.weights)
        again = read.save_pretrained(tmp_path / "omega")
        assert "license" not in (again / "README.md").read_text().split("---")[1]
        with pytest.raises(SettingError, match=r"no revision of .*omega, which is a folder, got 'main'"):
            Pathway.from_pretrained(folder, revision="main")

    def test_it_is_small(self, pathway, tmp_path):
        tensors = 2 * pathway.weights.numel() * 4
        assert pathway.save(tmp_path / "omega.safetensors").stat().st_size < tensors + 1024

    def test_other_precisions_are_kept_as_float32(self, model, tmp_path):
        own = model.pathway(TEXT, kind="weights")
        half = replace(own, router=own.router.bfloat16(), own=own.own.bfloat16())
        read = Pathway.load(model.with_origin(half, TEXT).save(tmp_path / "omega.safetensors"))
        assert read.weights.dtype == read.own.dtype == torch.float32
        assert torch.equal(read.router, half.router.float())
        assert not read.changed().any()

    def test_batches(self, model, tmp_path):
        many = model.with_origin(moved(model.pathway(TEXTS)), TEXTS, keep_text=True)
        read = Pathway.load(many.save(tmp_path / "many.safetensors"))
        assert read.origin.texts == tuple(TEXTS)
        for b, text in enumerate(TEXTS):
            assert read[b].origin.texts == (text,)
            model.check(read[b], text)
        assert read[[2, 0]].origin.prompts == (digest(TEXTS[2]), digest(TEXTS[0]))
        assert read[1:].origin.texts == tuple(TEXTS[1:])
        joined = stack_pathways([read[b] for b in range(3)])
        assert joined.origin == read.origin
        assert torch.equal(model.forward(TEXTS, joined).logits, model.forward(TEXTS, many).logits)


class TestOrigin:
    def test_says_whose_it_is(self, model, pathway):
        origin = pathway.origin
        assert origin.model == fingerprint(model)
        assert (origin.name, origin.dtype) == ("olmoe", "float32")
        assert origin.prompts == (digest(TEXT),)
        assert origin.texts is None, "texts are kept on demand alone"
        assert {"torch", "transformers"} <= origin.versions.keys()

    def test_a_folder_is_told_by_its_own_name(self, tmp_path):
        (tmp_path / "mine").mkdir()
        model = routed_model("olmoe")
        model.name = str(tmp_path / "mine")
        assert model.with_origin(model.pathway(TEXT), TEXT).origin.name == "mine"

    def test_without_one_nothing_is_saved(self, cards, model, tmp_path):
        plain = model.pathway(TEXT)
        for save in (plain.save, plain.save_pretrained):
            with pytest.raises(SettingError, match="which model and text it is of, got one in memory alone; save mo"):
                save(tmp_path / "omega")
        assert not list(tmp_path.iterdir())

    def test_it_has_to_fit(self, model, pathway, other):
        with pytest.raises(ShapeError, match=r"\(B, L, E\) = \(2, 3, 8\)"):
            model.with_origin(model.pathway(TEXT), TEXTS[:2])
        with pytest.raises(DataError, match="Expected a pathway of this model"):
            other.with_origin(pathway, TEXT)

    def test_a_changed_pathway_is_still_of_its_model(self, pathway, other):
        changed = replace(pathway, router=pathway.own)
        with pytest.raises(DataError, match="Expected a pathway of this model"):
            other.forward(TEXT, changed)

    def test_it_has_a_text_for_each_sample(self, model, pathway):
        twice = {name: getattr(pathway, name).expand(2, -1, -1) for name in ("router", "own")}
        with pytest.raises(ShapeError, match=r"one text for each of 2 samples, got 1; say whose it is anew"):
            replace(pathway, **twice)
        anew = model.with_origin(replace(pathway, **twice, origin=None), TEXTS[:2])
        assert anew.origin.prompts == tuple(map(digest, TEXTS[:2]))


class TestAnotherModel:
    def test_refuses_it_wherever_it_is_used(self, pathway, other, tmp_path):
        read = Pathway.load(pathway.save(tmp_path / "omega.safetensors"))
        question = questions(1)[0]
        states = other.prefill([other.encode(question)])
        plain = other.pathway(TEXT, kind="weights")
        batch = read[None]
        uses = [
            lambda: other.forward(TEXT, read),
            lambda: other.forward([TEXT], [read]),
            lambda: other.forward([TEXT, TEXT], [plain, read]),
            lambda: other.generate(TEXT, read, max_new_tokens=1),
            lambda: other.score_choices(question, routing=read),
            lambda: other.choice_scores(states, batch),
            lambda: other.next_token(states, batch),
            lambda: other.check(read),
            lambda: other.forward([TEXT], stack_pathways([read])),
        ]
        for use in uses:
            with pytest.raises(DataError, match=r"of this model .*one of 'olmoe'.*load that model with the same dtype"):
                use()

    def test_pathways_in_memory_are_taken_as_before(self, model, other):
        plain = moved(model.pathway(TEXT))
        assert plain.origin is None
        other.check(plain)
        other.forward(TEXT, plain)
        assert stack_pathways([plain, plain]).origin is None

    def test_models_do_not_mix_in_a_batch(self, model, pathway, other):
        theirs = other.with_origin(other.pathway(TEXT, kind="weights"), TEXT)
        with pytest.raises(ShapeError, match="pathways of one model"):
            stack_pathways([pathway, theirs])


def test_texts_are_checked_on_demand(model, pathway):
    model.check(pathway, TEXT)
    with pytest.raises(DataError, match="Expected a pathway of 'Another', got one of"):
        model.check(pathway, "Another")
    with pytest.raises(DataError, match="got one that says of none"):
        model.check(model.pathway(TEXT), TEXT)
    mixed = stack_pathways([pathway, model.pathway(TEXT, kind="weights")])
    with pytest.raises(DataError, match="Expected a pathway of"):
        model.check(mixed, [TEXT, TEXT])
    json.dumps(mixed.origin.model_dump())
