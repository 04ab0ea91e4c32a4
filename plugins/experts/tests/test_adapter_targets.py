"""What PEFT is told to adapt: adapters reach every expert of every MoE layer, and gradients reach the adapters."""

import json

import pytest
import torch

pytest.importorskip("peft", reason="the extra tuning is not installed")

from c3po_experts import PeftTargets
from peft import LoraConfig, get_peft_model
from typer.testing import CliRunner

from c3po_adaptive import peft_targets
from c3po_adaptive.cli import app
from c3po_adaptive.errors import ModelError
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint

FAMILIES = (
    *("olmoe", "mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3", "gpt_oss", "llama4_text"),
    *("granitemoe", "jamba", "jetmoe", "ernie4_5_moe"),
)

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def adapted(family, **config):
    """A tiny model with adapters that change it, after a backward pass; and its adapters' gradients by name."""
    torch.manual_seed(0)
    model = get_peft_model(tiny_moe(family), LoraConfig(r=2, lora_alpha=4, lora_dropout=0.0, **config))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    ids = torch.arange(5, 45)[None]
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return model, {name: p.grad for name, p in model.named_parameters() if "lora_" in name}


@pytest.mark.parametrize("family", FAMILIES)
class TestFamilies:
    def test_adapters_reach_all_experts_and_attention(self, family):
        plain = tiny_moe(family)
        targets = peft_targets(plain)
        moe_layers = {site.layer for site in RoutedModel(plain, tiny_tokenizer()).sites}
        _, gradients = adapted(
            family,
            target_parameters=list(targets.target_parameters),
            target_modules=list(targets.target_modules),
        )
        assert all(gradient is not None and gradient.any() for gradient in gradients.values())
        leaves = {name.split(".")[-2] for name in targets.target_parameters}
        of_experts = [name for name in gradients if leaves & {*name.split(".")}]
        assert len(of_experts) == 2 * len(moe_layers) * len(targets.target_parameters), "A and B of each"
        assert targets.target_modules and len(gradients) > len(of_experts)

    def test_and_routers_where_they_are_named(self, family):
        targets = peft_targets(tiny_moe(family))
        _, gradients = adapted(family, target_parameters=[*targets.target_parameters, *targets.routers])
        assert targets.routers
        assert all(gradient is not None and gradient.any() for gradient in gradients.values())

    def test_target_modules_alone_leave_experts_out(self, family):
        """What is silent elsewhere: PEFT issue 3009."""
        targets = peft_targets(tiny_moe(family))
        _, gradients = adapted(family, target_modules=list(targets.target_modules))
        assert not [name for name in gradients if "experts" in name]


def test_names_are_told_of_a_configuration_alone(tmp_path):
    folder = write_tiny_checkpoint(tmp_path, "qwen3_moe")
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    assert peft_targets(str(folder)) == PeftTargets(
        ("mlp.experts.gate_up_proj", "mlp.experts.down_proj"),
        ("k_proj", "o_proj", "q_proj", "v_proj"),
        ("mlp.gate.weight",),
    )


def test_the_command_prints_what_can_be_pasted(tmp_path):
    folder = write_tiny_checkpoint(tmp_path, "gpt_oss")
    said = CliRunner().invoke(app, ["models", str(folder), "--peft"])
    assert said.exit_code == 0, said.output
    names = {"LoraConfig": dict}
    exec(said.stdout, names)
    made = names["config"]
    assert made["target_parameters"] == ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    LoraConfig(**made)
    held = json.loads(CliRunner().invoke(app, ["models", str(folder), "--peft", "--json"]).stdout)
    assert held["routers"] == ["mlp.router.weight"]
    assert held["target_modules"] == made["target_modules"]


def test_what_cannot_be_adapted_is_said(tmp_path):
    said = CliRunner().invoke(app, ["models", "--peft"])
    assert (said.exit_code, said.stderr) == (
        1,
        "error: Expected a model beside --peft, got none; write c3po models NAME --peft.\n",
    )
    with pytest.raises(ModelError, match="a family whose experts PEFT can adapt, got dbrx: its experts read weights"):
        peft_targets(tiny_moe("dbrx"))
    assert not peft_targets(tiny_moe("longcat_flash")).routers


def test_a_dense_model_has_none():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(
        ModelError, match="LlamaForCausalLM to have routed experts whose weights lie together, found none"
    ):
        peft_targets(LlamaForCausalLM(config))
