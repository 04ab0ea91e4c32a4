"""A checkpoint that vLLM can serve is the same function."""

import pytest
import torch
from c3po_vllm import KEY, export_for_vllm, pathway_request
from safetensors import safe_open

from c3po_adaptive import load_moe_model
from c3po_adaptive.errors import DataError, ModelError, SettingError
from c3po_adaptive.models.tiny import write_tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """As the embedded model is made: without biases of query, key and value."""
    folder = tmp_path_factory.mktemp("model")
    return load_moe_model(
        write_tiny_checkpoint(folder, "qwen2_moe", qkv_bias=False, moe_intermediate_size=12, mlp_only_layers=[0])
    )


@pytest.mark.parametrize("multiple_of", [1, 32])
def test_zeros_change_nothing(model, tmp_path, multiple_of):
    exported = load_moe_model(export_for_vllm(model, tmp_path / "new" / "model", multiple_of=multiple_of))
    text = "Which object can float?"
    expected, found = (m.forward(text).logits for m in (model, exported))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert exported.sites[0].experts.down_proj.shape[-1] == (12 if multiple_of == 1 else 32)
    attention = exported.model.model.layers[0].self_attn
    assert not any(getattr(attention, name).bias.any() for name in ("q_proj", "k_proj", "v_proj"))
    pathway = model.pathway(text, kind="weights")
    assert pathway_request(model, pathway)[KEY] == pathway_request(exported, pathway)[KEY], "pathways go across"


def test_experts_are_named_as_on_the_hub(tmp_path):
    """However they were read: vLLM knows no others."""
    on_hub = write_tiny_checkpoint(tmp_path / "hub", "mixtral")
    load_moe_model(on_hub).model.save_pretrained(tmp_path / "own", save_original_format=False)
    for file in on_hub.glob("tokenizer*"):
        (tmp_path / "own" / file.name).write_bytes(file.read_bytes())
    folder = export_for_vllm(load_moe_model(tmp_path / "own"), tmp_path / "served")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert any(".block_sparse_moe.experts.0.w1." in name for name in file.keys())  # noqa: SIM118


def test_bad_input(model, tmp_path):
    with pytest.raises(SettingError, match="at least 1"):
        export_for_vllm(model, tmp_path / "a", multiple_of=0)
    with pytest.raises(DataError, match="exists; name another"):
        export_for_vllm(model, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a folder to write to"):
        export_for_vllm(model, tmp_path / "file" / "model")
    olmoe = load_moe_model(write_tiny_checkpoint(tmp_path / "olmoe", "olmoe"))
    with pytest.raises(ModelError, match="multiple_of=1"):
        export_for_vllm(olmoe, tmp_path / "b", multiple_of=32)
    assert not (tmp_path / "b").exists()
