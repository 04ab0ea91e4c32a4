"""References with images: kept with their pictures, told apart by them, and found by what the model makes of them."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from models.pictured import picture, seeing
from routing.naive import moved, shared_model

from c3po_adaptive import DataError, Optimizer, Pathway, Question, ReferenceSet, UnknownNameError, default_registry
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.references.learned import _content
from c3po_adaptive.references.model_embedding import ModelEmbedder
from c3po_adaptive.references.prefill_store import build_store
from c3po_adaptive.storage.picture_file import Picture
from c3po_adaptive.study.reference_shards import ReferenceWorker
from c3po_adaptive.study.study_config import OnQuestions
from c3po_adaptive.tasks.formats import description
from c3po_adaptive.tasks.question_files import load_questions
from c3po_adaptive.tasks.same_questions import distinct
from c3po_adaptive.types import draw_key

CHOICES = ("wood", "a boat")


def asked(count, prefix="r"):
    return [
        Question(f"{prefix}{i}", "What is it?", CHOICES, i % 2, images=[picture(i + 100 * (prefix == "q"))])
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def model():
    return seeing("qwen3_vl_moe")


@pytest.fixture(scope="module")
def references(model):
    return build_reference_set(model, [*asked(8), Question("text", "What floats?", CHOICES, 0)], ModelEmbedder(model))


def test_a_set_is_read_back_with_its_pictures(model, references, tmp_path):
    again = ReferenceSet.load(references.save(tmp_path / "set"))
    assert again.questions == references.questions and again.questions[0].pictures[0].read().size == (56, 56)
    assert again.questions[-1].images == ()
    assert [model.encode(q) for q in again.questions] == [model.encode(q) for q in references.questions]
    plain = references.subset(torch.tensor([8])).save(tmp_path / "plain")
    assert "images" not in json.loads((plain / "card.json").read_text())


def test_other_pictures_are_other_questions(model, references):
    first, second = references.questions[:2]
    assert first != replace(first, images=second.images) and hash(first) != hash(replace(first, images=second.images))
    assert first.row()["images"] == [picture_.digest for picture_ in first.pictures]
    assert "images" not in references.questions[-1].row(), "what is known of texts keeps its name"
    twin = replace(second, id="twin", images=first.images)
    assert distinct([first, second, twin]) == ([first, second], [(twin, first)])
    assert description(first) == description(twin) != description(second) and description(first) != "What is it?"
    assert pickle.loads(pickle.dumps(description(first))) == description(first)
    assert draw_key(0, description(first)) != draw_key(0, description(second)), "random neighbours, too"
    shown, other = (model.encode(q) for q in (first, second))
    assert shown.ids == other.ids and draw_key(0, shown) != draw_key(0, other), "and whatever else is drawn"
    other = replace(references, questions=(replace(first, images=second.images), *references.questions[1:]))
    assert _content(other) != _content(references)


@pytest.mark.parametrize("images", [picture(0), Picture(picture(0)).png(), [picture(0)]], ids=["one", "bytes", "list"])
def test_one_picture_needs_no_list(images):
    assert Question("a", "What is it?", CHOICES, images=images).images == (Picture(picture(0)),)


def test_none_and_what_is_no_picture():
    assert Question("a", "What is it?", CHOICES, images=None).images == ()
    with pytest.raises(DataError, match="images of PIL, got int"):
        Question("a", "What is it?", CHOICES, images=3)


def test_features_of_the_model_tell_pictures_and_texts_apart(model):
    embedder = ModelEmbedder(model)
    texts = [description(q) for q in asked(2)] + ["What is it?", "Where?"]
    vectors = embedder.encode(texts)
    assert vectors.shape == (4, 2 * 32) and embedder.revision == model.fingerprint
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors[2:, :32] == 0).all() and (vectors[:2, :32] != 0).all()
    for text, vector in zip(texts, vectors, strict=True):  # against a plain forward pass
        prompt = model.encode_text(text)
        inputs = {} if prompt.extra is None else dict(prompt.extra.inputs)
        with torch.no_grad():
            out = model.model.model(input_ids=torch.tensor([prompt.ids]), use_cache=False, **inputs)
        hidden, shown = out.last_hidden_state[0], torch.zeros(len(prompt.ids)).bool()
        shown = shown if prompt.extra is None else prompt.extra.shown
        parts = [hidden[where].mean(0) if where.any() else torch.zeros(32) for where in (shown, ~shown)]
        whole = torch.cat([part / part.norm().clamp_min(1e-9) for part in parts])
        np.testing.assert_allclose(vector, whole / whole.norm(), atol=1e-5)
    assert embedder.flops(texts[0]) > embedder.flops(texts[2]) > 0
    assert shared_model("olmoe").encode_text(texts[0]) == shared_model("olmoe").encode_text("What is it?"), "text alone"


def test_a_study_names_it(model):
    config = OnQuestions.of({"datasets": [{"name": "a", "questions": "a.jsonl"}], "embedder": "model"})
    worker = ReferenceWorker.here(config, default_registry(), model)
    assert isinstance(worker.embedder, ModelEmbedder) and worker.embedder.model is model
    assert worker.embedder is worker.embedder, "what it knows is kept"


def test_questions_with_pictures_are_remixed(model, references):
    settings = {"max_similarity": 1.0, "learn_from": "all"}
    c3po = Optimizer(model, references, preset="nearest", settings=settings, embedder="model")
    answers = c3po.answer(asked(3, "q"))
    assert all(answer.neighbours for answer in answers) and any(a.scores != a.base_scores for a in answers)
    assert not any(id_ == "r0" for id_, *_ in c3po.answer(asked(1))[0].neighbours), "a reference is not its own"
    with pytest.raises(UnknownNameError, match="an embedder or 'model', got 'modle'"):
        Optimizer(model, references, embedder="modle")
    by_name = Optimizer(model, preset="nearest", optimizer="none", embedder="all-MiniLM-L6-v2")
    assert by_name.remixer.embedder is default_embedder()


@pytest.mark.parametrize("family", ["qwen3_vl_moe", "mistral_large4"])
def test_states_are_kept_with_what_pictures_became(family, model, references, tmp_path):
    """Of a tail behind the pictures, and of one that has them."""
    model = model if family == model.name else seeing(family)
    store = build_store(replace(references, correct=references.correct | True), model, tmp_path / "warm")
    prompts = [model.encode(q) for q in references.questions]
    found, expected = store.states(prompts), model.prefill(prompts)
    pathway = moved(
        Pathway(torch.stack([s.own for s in expected]), torch.stack([s.own for s in expected]), model.layers),
        layers=(1,),
    )
    for one, other, a, b in zip(
        found, expected, *(model.choice_scores(s, pathway) for s in (found, expected)), strict=True
    ):
        torch.testing.assert_close(a, b)
        assert one.work.flops == pytest.approx(other.work.flops)


class TestFiles:
    def write(self, folder, **fields):
        row = {"question": "What is it?", "choices": list(CHOICES), "answer": 0, "id": "a"} | fields
        (folder / "asked.jsonl").write_text(json.dumps(row) + "\n")
        return folder / "asked.jsonl"

    def test_paths_are_relative_to_the_file(self, tmp_path):
        picture(0).save(tmp_path / "one.png")
        (found,) = load_questions(self.write(tmp_path, images=["one.png"]))
        assert found == Question("a", "What is it?", CHOICES, 0, "asked", images=[picture(0)])

    @pytest.mark.parametrize(
        ("images", "said"),
        [
            (["none.png"], r"line 1: Expected a picture at .*none\.png, which there is not; paths .* are relative"),
            (["asked.jsonl"], "line 1: Expected a picture at .*, got: cannot identify"),
            ([3], "line 1: expected the field 'images' to be a list of paths of pictures"),
            ("one.png", "line 1: expected the field 'images' to be a list, got 'one.png'"),
        ],
    )
    def test_bad_ones_are_named_by_their_line(self, tmp_path, images, said):
        with pytest.raises(DataError, match=said):
            load_questions(self.write(tmp_path, images=images))
