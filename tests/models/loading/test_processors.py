"""Checkpoints that read images: with their processor, without it, and what cannot read any."""

import json

import pytest
import torch
from models.pictured import QUESTIONS, picture, seeing
from routing.naive import shared_model
from safetensors.torch import load_file, save_file

from c3po_adaptive import DataError, Question, load_moe_model
from c3po_adaptive.errors import ModelError
from c3po_adaptive.models.loading import model_footprint
from c3po_adaptive.routing.image_inputs import image_inputs_of
from c3po_adaptive.tasks.formats import Cloze
from c3po_adaptive.testing import write_tiny_checkpoint

FILE = "processor_config.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("seeing"), "qwen3_vl_moe")


@pytest.fixture
def without(folder, tmp_path):
    for file in folder.iterdir():
        if file.name != FILE:
            (tmp_path / file.name).symlink_to(file)
    return tmp_path


def test_a_checkpoint_brings_its_processor(folder):
    model, own = load_moe_model(folder), seeing("qwen3_vl_moe")
    assert model.encode(QUESTIONS[2]) == own.encode(QUESTIONS[2])
    found, expected = (one.score_choices(QUESTIONS[2]) for one in (model, own))
    torch.testing.assert_close(found, expected)


def test_a_template_beside_the_processor_alone_is_the_tokenizers_too(folder, without):
    """As older checkpoints have it."""
    (without / "chat_template.jinja").unlink()
    (without / "chat_template.json").write_text(
        json.dumps({"chat_template": seeing("qwen3_vl_moe").tokenizer.chat_template})
    )
    (without / FILE).symlink_to(folder / FILE)
    assert load_moe_model(without).encode(QUESTIONS[2]) == seeing("qwen3_vl_moe").encode(QUESTIONS[2])


def test_one_without_reads_texts_and_says_why_no_images(without):
    model = load_moe_model(without)
    assert model.score_choices(QUESTIONS[1]).shape == (2,)
    with pytest.raises(DataError, match=f"'one': expected no images, as .* reads none .there is no {FILE}"):
        model.score_choices(QUESTIONS[0])
    (without / FILE).write_text("{")
    with pytest.raises(DataError, match=r"its processor cannot be read: .*leave them out"):
        load_moe_model(without).score_choices(QUESTIONS[0])


def test_of_a_model_that_speaks_the_thinker_is_loaded(tmp_path):
    write_tiny_checkpoint(tmp_path, "qwen3_omni_moe_thinker")
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    whole = {"model_type": "qwen3_omni_moe", "enable_audio_output": False}
    config.write_text(json.dumps(whole | {"thinker_config": json.loads(config.read_text())}))
    save_file({f"thinker.{name}": tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    model, own = load_moe_model(tmp_path), seeing("qwen3_omni_moe_thinker")
    assert model.encode(QUESTIONS[2]) == own.encode(QUESTIONS[2])
    torch.testing.assert_close(*(one.score_choices(QUESTIONS[2]) for one in (model, own)))
    assert model_footprint(tmp_path).parameters == own.model.num_parameters()


def test_a_model_of_text_refuses_images():
    model = shared_model("olmoe")
    with pytest.raises(DataError, match=r"reads none \(it is a model of text alone\); leave them out"):
        model.score_choices(QUESTIONS[0])
    shot = Cloze(shots=(QUESTIONS[0],))
    with pytest.raises(DataError, match="'none': expected a text alone, as this model reads no images"):
        model.encode(QUESTIONS[1], shot)


def test_shots_bring_their_images_before_the_questions(folder):
    model = seeing("qwen3_vl_moe")
    alone, behind = model.encode(QUESTIONS[0]), model.encode(QUESTIONS[0], Cloze(shots=(QUESTIONS[2],)))
    assert behind.ids[-len(alone.ids) :] == alone.ids
    first, second = len(model.encode(QUESTIONS[2]).extra.inputs["pixel_values"]), alone.extra.inputs["pixel_values"]
    assert torch.equal(behind.extra.inputs["pixel_values"][first:], second)


def test_what_a_processor_or_a_decoder_refuses_is_said():
    model = seeing("qwen3_vl_moe")
    long = Question("long", "What?", ("a", "b"), images=[picture(0, 900, 4)])
    with pytest.raises(DataError, match=r"'long': Expected pictures that .* takes, got 900 × 4: .*aspect ratio"):
        model.encode(long)
    with pytest.raises(DataError, match=r"without '￼' .U.FFFC., which marks pictures"):
        model.encode(Question("mark", "What is ￼?", ("a", "b"), images=[picture(0)]))
    with pytest.raises(DataError, match="at most 512 tokens, the model's context, got 5"):
        model.encode(Question("much", "What?", ("a", "b"), images=[picture(i, 112, 112) for i in range(30)]))
    prompt = model.encode(QUESTIONS[0])
    prompt.extra.inputs.pop("image_grid_thw")
    with pytest.raises(ModelError, match="to read pictures with mm_token_type_ids, pixel_values, got "):
        image_inputs_of(model.model, prompt)
