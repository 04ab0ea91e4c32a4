"""Checkpoints that are broken, hostile or impossible: one short sentence each, and no code of theirs is run."""

import json
import pickle

import pytest
import torch

from c3po_adaptive.errors import ModelError
from c3po_adaptive.models.loading import LONGEST_REASON, load_moe_model, load_tokenizer, model_footprint
from c3po_adaptive.testing import write_tiny_checkpoint

CONFIG, WEIGHTS, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"


class Evil:
    def __reduce__(self):
        return print, ("this code was run",)


@pytest.fixture
def folder(tmp_path):
    return write_tiny_checkpoint(tmp_path / "tiny", "olmoe")


def configured(**changes):
    def alter(folder):
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(config | changes))

    return alter


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def pickled(folder):
    (folder / WEIGHTS).unlink()
    torch.save({"a": Evil()}, folder / PICKLED)


def bare_pickle(folder):
    (folder / WEIGHTS).unlink()
    (folder / PICKLED).write_bytes(pickle.dumps(Evil()))


def cut(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


BROKEN = {
    "pickled weights": pickled,
    "a bare pickle": bare_pickle,
    "weights cut short": cut,
    "weights of length zero": written(WEIGHTS, b""),
    "weights whose header is longer than the file": written(WEIGHTS, b"\xff" * 8),
    "a configuration of zeros": written(CONFIG, b"\0" * 100),
    "a configuration that is a list": written(CONFIG, b"[]"),
    "a configuration nested too deeply": written(CONFIG, b"[" * 100_000),
    "an index of nothing": lambda f: (cut(f), written(f"{WEIGHTS}.index.json", b"[]")(f)),
    "no tokenizer": written("tokenizer.json", b"{}"),
    "a tokenizer that is no UTF-8": written("tokenizer.json", b"\xff\xfe"),
    "negative width": configured(hidden_size=-1),
    "width zero": configured(hidden_size=0),
    "width as text": configured(hidden_size="wide"),
    "a trillion experts": configured(num_experts=10**12),
    "a width of 10^18": configured(hidden_size=10**18),
    "no layers": configured(num_hidden_layers=0),
    "layers by the billion": configured(num_hidden_layers=-(10**9)),
    "no heads": configured(num_attention_heads=0),
    "heads that do not divide": configured(num_attention_heads=7),
    "more experts a token than there are": configured(num_experts_per_tok=10**6),
    "a vocabulary of minus one": configured(vocab_size=-1),
    "an unknown architecture": configured(model_type="no_such", architectures=["NoSuch"]),
    "an unknown dtype": configured(dtype="float1", torch_dtype="float1"),
}


@pytest.mark.filterwarnings("ignore")  # libraries may remark on what they read before it is refused
@pytest.mark.parametrize("name", BROKEN)
def test_is_refused_in_a_sentence(name, folder, capfd):
    BROKEN[name](folder)
    with pytest.raises(ModelError) as caught:
        load_moe_model(folder)
    message = str(caught.value)
    assert len(message) < LONGEST_REASON + 400, message
    assert "this code was run" not in capfd.readouterr().out


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("read", [model_footprint, load_tokenizer], ids=["footprint", "tokenizer"])
@pytest.mark.parametrize("name", ["a configuration that is a list", "a configuration nested too deeply"])
def test_parts_alone(name, read, folder):
    BROKEN[name](folder)
    with pytest.raises(ModelError, match="Could not read"):
        read(str(folder))
