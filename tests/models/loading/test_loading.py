"""Loading from a folder: precision, places, quantized weights, sizes told before; and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from models.families.checks import PROMPTS, checked, generates, naive, reads, replaces
from models.families.checks import moved as drawn
from rounding import assert_near
from routing.naive import FAMILIES, logits, moved
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from c3po_adaptive.errors import DataError, ModelError, SettingError
from c3po_adaptive.models import footprint as sizes
from c3po_adaptive.models import loading
from c3po_adaptive.models.dense_models import load_dense_model
from c3po_adaptive.models.fingerprint import fingerprint
from c3po_adaptive.models.footprint import footprint
from c3po_adaptive.models.loading import load_moe_model, load_tokenizer, model_footprint
from c3po_adaptive.models.names import ALIASES
from c3po_adaptive.models.tiny import tiny_config
from c3po_adaptive.routing.dense_experts import DENSE
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint

TEXT = "Which object can float on water?"


class TestLoading:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_from_a_folder(self, family, tmp_path):
        folder = write_tiny_checkpoint(tmp_path / "tiny", family)
        model = load_moe_model(folder, device="cpu")
        assert (model.name, model.layers, model.n_experts, model.max_length) == (str(folder), (0, 1, 2), 8, 512)
        assert not model.model.training
        assert not any(p.requires_grad for p in model.model.parameters())
        with torch.no_grad():
            expected = logits(tiny_moe(family), model.encode_text(TEXT).ids)
        assert_near(model.forward(TEXT).logits[0], expected)

    @pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
    def test_in_another_precision(self, dtype, tmp_path):
        model = load_moe_model(write_tiny_checkpoint(tmp_path / "tiny", "olmoe"), dtype=dtype)
        assert model.model.dtype == torch.bfloat16
        pathway = moved(model.pathway(TEXT))
        assert pathway.weights.dtype == torch.float32
        base, new = model.forward(TEXT).logits, model.forward(TEXT, pathway).logits
        assert torch.equal(base[:, :-1], new[:, :-1])
        assert not torch.equal(base[:, -1], new[:, -1])

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_in_half_precision_it_computes_as_transformers_does(self, dtype, tmp_path):
        """To the bit, or else some tokens would be routed otherwise by name than in memory."""
        folder = write_tiny_checkpoint(tmp_path / "tiny", "olmoe")
        assert load_moe_model(folder).model.config._experts_implementation == DENSE, "its experts are narrow"
        model = load_moe_model(folder, dtype=dtype)
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        ids = torch.arange(5, 60).view(5, 11)
        with torch.no_grad():
            assert torch.equal(model.model(ids).logits, plain(ids).logits)

    @pytest.mark.parametrize("written", [False, True], ids=["no folder", "an empty folder"])
    def test_nothing_there(self, tmp_path, written):
        folder = tmp_path / "nothing"
        if written:
            folder.mkdir()
        empty = r"Could not load .*nothing(?s:.*)OLMoE, .*DeepSeekMoE, .*a Hub id"
        with pytest.raises(ModelError, match=empty if written else r"a folder .*nothing, which there is not"):
            load_moe_model(folder)

    def test_misspelled(self, tmp_path, monkeypatch):
        tiny_config("mixtral").save_pretrained(tmp_path / "mixtral")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelError, match=r"a model's folder, got the file .*test_loading\.py; name the folder"):
            load_moe_model(__file__)
        for name, meant in (("smolm2-moe", "smollm2-moe"), ("OLMOE", "OLMoE"), ("mixtal", "mixtral")):
            with pytest.raises(ModelError, match=f"got {name!r}; did you mean {meant!r}"):
                load_moe_model(name)

    @pytest.mark.parametrize("ask", [load_moe_model, model_footprint])
    def test_a_hub_that_does_not_answer_is_asked_once(self, ask, monkeypatch, tmp_path):
        asked = []

        class Session:
            def head(self, url, timeout):
                asked.append(url)
                raise ConnectionError("Name or service not known")

        monkeypatch.setattr(loading.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(loading.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(loading, "get_session", Session)
        said = r"'nobody/nothing' .* but https://\S+ could not be reached: .*Name or service.*HF_ENDPOINT.*local folder"
        with pytest.raises(ModelError, match=said):
            ask("nobody/nothing")
        assert asked == [loading.constants.ENDPOINT]
        assert ask(str(write_tiny_checkpoint(tmp_path / "folder", "olmoe"))).layers, "a folder is asked for nowhere"
        assert len(asked) == 1

    @pytest.mark.parametrize("ask", [load_moe_model, model_footprint])
    def test_offline_by_its_variable_says_so(self, ask, monkeypatch, tmp_path):
        monkeypatch.setattr(loading.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(loading.constants, "HF_HUB_CACHE", str(tmp_path))
        said = (
            r"as HF_HUB_OFFLINE is set, but it is not there; unset that .*local folder .*'smollm2-moe', which needs no"
        )
        with pytest.raises(ModelError, match=said):
            ask("nobody/nothing")

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"dtype": "float8"}, "'float8'; did you mean 'float32'.*auto, float32"),
            ({"device": "cpu", "device_map": "auto"}, "got both"),
        ],
    )
    def test_settings_are_checked(self, settings, message):
        with pytest.raises(SettingError, match=message):
            load_moe_model("OLMoE", **settings)

    @pytest.mark.parametrize("ask", [load_moe_model, model_footprint, load_tokenizer])
    def test_a_folder_has_no_revision(self, ask, tmp_path):
        folder = str(write_tiny_checkpoint(tmp_path, "olmoe"))
        with pytest.raises(SettingError, match=r"no revision of .* which is a folder, got 'main'; leave it out"):
            ask(folder, revision="main")

    def test_dense_model(self, tmp_path):
        config = LlamaConfig(
            vocab_size=128, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
        )
        LlamaForCausalLM(config).save_pretrained(tmp_path)
        tiny_tokenizer().save_pretrained(tmp_path)
        said = []
        for ask in (load_moe_model, model_footprint):  # a command that only plans says what one that runs says
            with pytest.raises(ModelError, match=r"LlamaForCausalLM has no MoE layer .*it is dense") as refused:
                ask(str(tmp_path))
            said.append(str(refused.value))
        assert said[0] == said[1]

    @pytest.mark.parametrize("family", ["olmoe", "mixtral"])
    def test_a_tokenizer_is_its_own_or_the_one_that_is_passed(self, family, tmp_path):
        tiny_moe(family).save_pretrained(tmp_path)
        for load in (load_moe_model, load_dense_model, load_tokenizer):
            with pytest.raises(ModelError, match=r"tokenizer in .* \(tokenizer\.json, .*got none .*pass tokenizer=…"):
                load(str(tmp_path))
        passed = tiny_tokenizer()
        assert load_moe_model(tmp_path, tokenizer=passed).tokenizer is passed
        passed.save_pretrained(tmp_path)
        assert load_moe_model(tmp_path, tokenizer=passed).tokenizer is passed is not load_moe_model(tmp_path).tokenizer

    def test_tokens_beyond_its_embedding(self, tmp_path):
        large = tiny_tokenizer()
        large.add_tokens(["boat", *(f"w{i}" for i in range(100)), "float"])
        model = load_moe_model(write_tiny_checkpoint(tmp_path, "olmoe"), tokenizer=large)
        model.forward("A boat"), model.score_choices(["A boat"], [["a", "b"]])
        for ask in (lambda: model.forward(TEXT), lambda: model.score_choices(["A boat"], [["a", "float"]])):
            with pytest.raises(DataError, match=r"tokens below 128, the rows of .*got 201 \('float'\); load"):
                ask()

    def test_quantized_weights_that_the_configuration_does_not_tell(self, tmp_path):
        file = write_tiny_checkpoint(tmp_path, "olmoe") / "model.safetensors"
        tensors = load_file(file)
        scales = {f"{name}_scale_inv": torch.ones(1) for name in tensors if "q_proj" in name}
        save_file(tensors | scales, file, {"format": "pt"})
        with pytest.raises(ModelError, match=r"are quantized \(model\.layers\.0\..*weight_scale_inv\), of which"):
            load_moe_model(tmp_path)

    def test_sharded(self, tmp_path):
        tiny_moe("olmoe").save_pretrained(tmp_path, max_shard_size="20KB")
        tiny_tokenizer().save_pretrained(tmp_path)
        assert len([*tmp_path.glob("model-*.safetensors")]) > 2
        expected = tiny_moe("olmoe").state_dict()
        assert all(torch.equal(t, expected[k]) for k, t in load_moe_model(tmp_path).model.state_dict().items())


class TestPlaces:
    @pytest.mark.parametrize("family", ["olmoe", "deepseek", "qwen3_next", "gpt_oss"])
    def test_layers_on_the_disk(self, family, tmp_path, monkeypatch):
        """What is offloaded comes when it is needed: reading, replacing, tails, gradients and generation."""
        monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
        folder = write_tiny_checkpoint(tmp_path / "tiny", family)
        layers = [f"model.layers.{i}" for i in range(tiny_config(family).num_hidden_layers)]
        here = ["lm_head", "model.embed_tokens", "model.norm", "model.rotary_emb", *layers]
        places = {**dict.fromkeys(here, "cpu"), "model.layers.1": "disk", "model.layers.2": "disk"}
        model = load_moe_model(folder, device_map=places)
        assert {p.device.type for p in model.sites[1].experts.parameters()} == {"meta"}
        for check in checked():
            check(model)
        whole = load_moe_model(folder)
        pathway = drawn(whole, whole.pathway(TEXT).own[None])
        assert_near(model.forward(TEXT, pathway).logits, whole.forward(TEXT, pathway).logits, by=5e-5)

    def test_references_of_an_offloaded_model_are_those_of_a_whole_one(self, tmp_path, monkeypatch):
        monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
        folder = write_tiny_checkpoint(tmp_path / "tiny", "olmoe")
        here = ["lm_head", "model.embed_tokens", "model.norm", "model.rotary_emb", "model.layers.0", "model.layers.2"]
        model = load_moe_model(folder, device_map={**dict.fromkeys(here, "cpu"), "model.layers.1": "disk"})
        assert fingerprint(model) == fingerprint(load_moe_model(folder))

    @pytest.mark.parametrize("device", ["gpu", "cuda:99"])
    def test_device_that_is_not_there(self, device):
        with pytest.raises(SettingError, match=rf"a device that is there .*got '{device}'"):
            load_moe_model("OLMoE", device=device)

    def test_spread_over_what_there_is(self, tmp_path):
        model = load_moe_model(write_tiny_checkpoint(tmp_path / "tiny", "olmoe"), device="auto")
        assert model.pathway(TEXT).weights.shape == (3, 8)


class TestQuantized:
    """transformers (5.24) quantizes linear layers, and leaves experts as they are."""

    @pytest.fixture
    def folder(self, tmp_path):
        return write_tiny_checkpoint(tmp_path, "olmoe", hidden_size=64, intermediate_size=64)

    @pytest.fixture(params=["4bit", "8bit"])
    def model(self, request, folder):
        pytest.importorskip("bitsandbytes", reason="the extra 'quantized' is not installed")
        return load_moe_model(folder, dtype="float32", quantize=request.param)

    def test_what_is_quantized(self, folder, model):
        attention = model.model.model.layers[0].self_attn.q_proj
        assert attention.weight.dtype in (torch.uint8, torch.int8)
        assert model.sites[0].experts.gate_up_proj.dtype == torch.float32
        assert model.flops == load_moe_model(folder).flops, "the same matrices, whatever their precision"
        assert not any(p.requires_grad for p in model.model.parameters())
        assert fingerprint(model) != fingerprint(load_moe_model(folder))

    def test_reading_replacing_and_generation(self, model):
        for check in (reads, replaces, generates):
            check(model)

    def test_tails_and_gradients_are_those_of_full_forwards(self, model):
        """To the precision of 8 bits: activations are rounded too, by what else is in the batch."""
        (state,) = model.prefill(PROMPTS[:1])
        pathway = drawn(model, state.own[None])
        weights = pathway.weights.clone().requires_grad_()
        scores = model.tail_scores([state], pathway)(weights)[0]
        expected = naive(model, state, replace(pathway, router=weights))
        torch.testing.assert_close(scores, expected, atol=1e-2, rtol=1e-2)
        gradient, full = (torch.autograd.grad(s.sum(), weights)[0] for s in (scores, expected))
        assert torch.cosine_similarity(gradient.flatten(), full.flatten(), dim=0) > 0.999
        assert full.abs().max() > 0.1

    def test_without_the_library(self, folder, monkeypatch):
        monkeypatch.setattr(
            "transformers.quantizers.quantizer_bnb_8bit.is_bitsandbytes_available", lambda *args: False, raising=False
        )
        monkeypatch.setattr("transformers.utils.is_bitsandbytes_available", lambda *args: False)
        with pytest.raises(ModelError, match=r"Could not load .*pip install .*bitsandbytes"):
            load_moe_model(folder, quantize="8bit")


class TestFootprint:
    @pytest.mark.parametrize("family", ["olmoe", "deepseek", "gpt_oss", "jamba"])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_is_that_of_the_model(self, family, dtype):
        model = tiny_moe(family).to(getattr(torch, dtype))
        expected = {id(p): p for p in model.parameters()}.values()
        told = footprint(tiny_config(family), dtype)
        assert told.parameters == sum(p.numel() for p in expected)
        assert told.bytes == sum(p.nbytes for p in expected)
        assert told.experts == sum(p.numel() for n, p in model.named_parameters() if p.ndim > 1 and ".experts." in n)

    def test_quantized_layers_count_less(self):
        config = tiny_config("olmoe")
        whole, four = footprint(config, "float32"), footprint(config, "float32", "4bit")
        linear = sum(m.weight.numel() for m in tiny_moe("olmoe").model.layers.modules() if type(m) is torch.nn.Linear)
        assert whole.bytes - four.bytes == round(linear * (4 - 4.5 / 8))

    def test_of_a_folder(self, tmp_path):
        folder = write_tiny_checkpoint(tmp_path / "tiny", "olmoe")
        (folder / "model.safetensors").unlink()
        told = model_footprint(str(folder))
        assert told == footprint(tiny_config("olmoe"), "float32")
        assert "G parameters (" in str(told)

    def test_too_large_is_refused_before_a_weight_is_read(self, tmp_path, monkeypatch):
        folder = write_tiny_checkpoint(tmp_path / "tiny", "olmoe")
        (folder / "model.safetensors").unlink()
        monkeypatch.setattr(sizes, "available", lambda device: 1000)
        with pytest.raises(ModelError, match=r"room for .*tiny on the CPU, which needs .*bfloat16.*device='auto'"):
            load_moe_model(folder)

    def test_memory_that_is_free(self):
        assert 2**20 < sizes.available(None) < 2**50

    def test_papers_models_have_names(self):
        """Their sizes as released are told in ``tests/study/test_plan.py``."""
        olmoe = {f"OLMoE{release}{kind}" for release in ("", "-0125") for kind in ("", "-Instruct")}
        assert {*ALIASES} == {*olmoe, "DeepSeekMoE", "DeepSeekMoE-chat"}


@pytest.mark.parametrize("settings", [{"dtype": "float8"}, {"quantize": "3bit"}])
def test_sizes_are_asked_with_settings_that_exist(settings):
    with pytest.raises(SettingError, match=f"got '{next(iter(settings.values()))}'"):
        model_footprint("OLMoE", **settings)


def test_unknown_quantization():
    with pytest.raises(SettingError, match=r"got '3bit'; did you mean '8bit'.*There are 4bit, 8bit"):
        load_moe_model("OLMoE", quantize="3bit")


def test_configuration_that_is_none(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 4}))
    with pytest.raises(ModelError, match="Could not read the configuration of"):
        model_footprint(str(tmp_path))
