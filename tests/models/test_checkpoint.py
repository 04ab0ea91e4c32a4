"""A model as a stock checkpoint: in the layout that its family has on the Hub, however it was read."""

import peft
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from c3po_adaptive import ModelError, load_moe_model, new_checkpoint
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint


def names_in(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {*file.keys()}


def test_written_as_on_the_hub_however_it_was_read(tmp_path):
    """mergekit writes experts under transformers' own names, which vLLM does not read."""
    on_hub = write_tiny_checkpoint(tmp_path / "hub", "mixtral")
    made = AutoModelForCausalLM.from_pretrained(on_hub)
    made.save_pretrained(tmp_path / "own", save_original_format=False)
    for file in on_hub.glob("tokenizer*"):
        (tmp_path / "own" / file.name).write_bytes(file.read_bytes())
    assert names_in(on_hub) != names_in(tmp_path / "own")
    for source in ("hub", "own"):
        model = load_moe_model(tmp_path / source)
        kept = model.model._weight_conversions
        with new_checkpoint(model, tmp_path / f"{source}-again"):
            pass
        assert model.model._weight_conversions is kept
        assert names_in(tmp_path / f"{source}-again") == names_in(on_hub)
        again = load_moe_model(tmp_path / f"{source}-again").model.state_dict()
        assert all(torch.equal(again[name], tensor) for name, tensor in made.state_dict().items())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's
def test_adapters_have_no_place_in_it(tmp_path):
    config = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(tiny_moe("olmoe"), config)
    model = load_moe_model(adapted, tokenizer=tiny_tokenizer())
    said = r"without adapters .* one of PEFT at model\.layers\.0\.self_attn\.q_proj; merge them first"
    with pytest.raises(ModelError, match=said), new_checkpoint(model, tmp_path / "out"):
        pass
    merged = load_moe_model(adapted.merge_and_unload(), tokenizer=tiny_tokenizer())
    with new_checkpoint(merged, tmp_path / "out"):
        pass
    assert load_moe_model(tmp_path / "out").fingerprint == merged.fingerprint
