"""A model as a stock checkpoint: in the layout that its family has on the Hub, however it was read."""

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from c3po_adaptive import load_moe_model, new_checkpoint
from c3po_adaptive.testing import write_tiny_checkpoint


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
