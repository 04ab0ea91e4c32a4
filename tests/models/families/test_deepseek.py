"""DeepSeekMoE-16B's format, written by hand with its original names, against its equations (arXiv 2401.06066)."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import silu

from c3po_adaptive.errors import ModelError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.models.tiny import tiny_config
from c3po_adaptive.testing import tiny_tokenizer, write_tiny_checkpoint

HIDDEN, DENSE, EXPERT, EXPERTS, TOP, SHARED, LAYERS, HEADS, VOCABULARY = 32, 64, 16, 8, 3, 2, 3, 4, 128
CONFIG = {  # as deepseek-ai/deepseek-moe-16b-base publishes it, made small
    "architectures": ["DeepseekForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_deepseek.DeepseekConfig",
        "AutoModel": "modeling_deepseek.DeepseekModel",
        "AutoModelForCausalLM": "modeling_deepseek.DeepseekForCausalLM",
    },
    "attention_bias": False,
    "attention_dropout": 0.0,
    "aux_loss_alpha": 0.001,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": DENSE,
    "max_position_embeddings": 256,
    "model_type": "deepseek",
    "moe_intermediate_size": EXPERT,
    "moe_layer_freq": 1,
    "n_routed_experts": EXPERTS,
    "n_shared_experts": SHARED,
    "norm_topk_prob": False,
    "num_attention_heads": HEADS,
    "num_experts_per_tok": TOP,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": HEADS,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 10000,
    "scoring_func": "softmax",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": VOCABULARY,
}


def parameters():
    """Random ones, by their original names."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return 0.2 * torch.randn(*shape, generator=generator)

    named = {
        "model.embed_tokens.weight": drawn(VOCABULARY, HIDDEN),
        "model.norm.weight": 1 + drawn(HIDDEN),
        "lm_head.weight": drawn(VOCABULARY, HIDDEN),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            named[f"{prefix}{norm}.weight"] = 1 + drawn(HIDDEN)
        for part in "qkvo":
            named[f"{prefix}self_attn.{part}_proj.weight"] = drawn(HIDDEN, HIDDEN)
        widths = {"mlp.": DENSE}
        if layer > 0:
            named[f"{prefix}mlp.gate.weight"] = drawn(EXPERTS, HIDDEN)
            widths = {f"mlp.experts.{e}.": EXPERT for e in range(EXPERTS)} | {"mlp.shared_experts.": SHARED * EXPERT}
        for part, width in widths.items():
            named[f"{prefix}{part}gate_proj.weight"] = drawn(width, HIDDEN)
            named[f"{prefix}{part}up_proj.weight"] = drawn(width, HIDDEN)
            named[f"{prefix}{part}down_proj.weight"] = drawn(HIDDEN, width)
    return named


def write(folder, named, **changes):
    """A checkpoint of two shards."""
    names = sorted(named)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, own in shards.items():
        save_file({name: named[name] for name in own}, folder / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: shard for shard, own in shards.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    tiny_tokenizer().save_pretrained(folder)
    return folder


class Reference:
    """The model by its equations: one sequence, one token and one expert at a time."""

    def __init__(self, named):
        self.named = named

    def __call__(self, ids):
        hidden = self.named["model.embed_tokens.weight"][ids]
        for layer in range(LAYERS):
            prefix = f"model.layers.{layer}."
            hidden = hidden + self.attention(prefix, self.norm(prefix + "input_layernorm", hidden))
            normed = self.norm(prefix + "post_attention_layernorm", hidden)
            hidden = hidden + (self.mixture(prefix, normed) if layer > 0 else self.feed(prefix + "mlp.", normed))
        return self.linear("lm_head", self.norm("model.norm", hidden))

    def linear(self, name, x):
        return x @ self.named[name + ".weight"].T

    def norm(self, name, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.named[name + ".weight"]

    def feed(self, name, x):
        return self.linear(
            name + "down_proj", silu(self.linear(name + "gate_proj", x)) * self.linear(name + "up_proj", x)
        )

    def attention(self, prefix, x):
        size = HIDDEN // HEADS
        q, k, v = (self.linear(f"{prefix}self_attn.{p}_proj", x).view(len(x), HEADS, size) for p in "qkv")
        q, k = self.rotated(q), self.rotated(k)
        scores = torch.einsum("thd,shd->hts", q, k) / size**0.5
        future = torch.ones(len(x), len(x)).triu(1).bool()
        mixed = torch.einsum("hts,shd->thd", scores.masked_fill(future, -torch.inf).softmax(-1), v)
        return self.linear(f"{prefix}self_attn.o_proj", mixed.reshape(len(x), HIDDEN))

    def rotated(self, x):
        """Pairs (i, i + d/2) turned by position times 10000^(-2i/d)."""
        half = x.shape[-1] // 2
        angle = torch.arange(len(x))[:, None, None] * 10000.0 ** -(torch.arange(half) / half)
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)

    def mixture(self, prefix, x):
        """Equations 9 to 11: shared experts, and the top K of the routed ones by their softmax scores."""
        rows = []
        for token in x:
            scores = self.linear(prefix + "mlp.gate", token).softmax(-1)
            best = scores.topk(TOP).indices.tolist()
            rows.append(sum(scores[e] * self.feed(f"{prefix}mlp.experts.{e}.", token) for e in best))
        return torch.stack(rows) + self.feed(prefix + "mlp.shared_experts.", x)


def keys(folder):
    found = {}
    for shard in folder.glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    return found


IDS = torch.randint(3, 120, (14,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
@torch.no_grad()
def test_is_the_reference(tmp_path, implementation):
    named = parameters()
    model = load_moe_model(write(tmp_path, named))
    model.model.set_experts_implementation(implementation)
    assert (model.layers, model.n_experts, model.sites[0].top_k) == ((1, 2), EXPERTS, TOP)
    logits = model.model(IDS[None]).logits[0]
    assert (logits - Reference(named)(IDS)).abs().max() < 1e-5


@torch.no_grad()
def test_round_trip_keeps_names_and_numbers(tmp_path):
    named = parameters()
    model = load_moe_model(write(tmp_path, named))
    again = tmp_path / "again"
    model.model.save_pretrained(again)
    model.tokenizer.save_pretrained(again)
    saved = keys(again)
    assert saved.keys() == named.keys()
    assert all(torch.equal(saved[name], named[name]) for name in named)
    assert json.loads((again / "config.json").read_text())["model_type"] == "deepseek"
    assert torch.equal(load_moe_model(again).model(IDS[None]).logits, model.model(IDS[None]).logits)


def test_which_layers_are_sparse_is_told_by_two_numbers(tmp_path):
    config = tiny_config("deepseek", num_hidden_layers=6, first_k_dense_replace=2, moe_layer_freq=2)
    assert [config.sparse(i) for i in range(6)] == [False, False, True, False, True, False]
    assert load_moe_model(
        write_tiny_checkpoint(tmp_path, "deepseek", num_hidden_layers=6, first_k_dense_replace=2, moe_layer_freq=2)
    ).layers == (2, 4)


@pytest.mark.parametrize("change", [{"norm_topk_prob": True}, {"scoring_func": "sigmoid"}])
def test_routing_that_was_never_released_is_refused(tmp_path, change):
    with pytest.raises(ModelError, match="routes by softmax without renormalization"):
        load_moe_model(write(tmp_path, parameters(), **change))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.layers.2.mlp.experts.5.up_proj.weight", "issues during automatic conversion of the weights"),
        (
            "model.layers.1.mlp.gate.weight",
            r"do not fit its configuration: model\.layers\.1\.mlp\.gate\.weight missing",
        ),
    ],
)
def test_a_missing_weight_is_refused(tmp_path, name, message):
    """transformers warns, and draws it at random."""
    named = parameters()
    del named[name]
    with pytest.raises(ModelError, match=message):
        load_moe_model(write(tmp_path, named))
