"""A pathway's file that others may have written: whatever it holds, it is read or refused, in words."""

import json
from dataclasses import replace
from typing import get_args

import pytest
import torch
from routing.naive import moved, shared_model
from safetensors.torch import save_file

from c3po_adaptive.errors import C3POError, DataError
from c3po_adaptive.storage.pathway_file import KEY, read_pathway
from c3po_adaptive.types import Pathway, Scope

TEXT = "Which object can float on water?"


@pytest.fixture
def file(tmp_path):
    model = shared_model("olmoe")
    return model.with_origin(moved(model.pathway(TEXT)), TEXT).save(tmp_path / "omega.safetensors")


def rewrite(file, tensors=None, card=None, key=KEY, **metadata):
    """The file with other tensors, or another card."""
    known, found = read_pathway(file)
    text = json.dumps(found.model_dump()) if card is None else card
    save_file(known | (tensors or {}), file, {key: text, **metadata})


def changed_card(file, **changes):
    _, found = read_pathway(file)
    return json.dumps(found.model_dump() | changes)


def test_the_models_own_pathway_is_saved_too(tmp_path):
    model = shared_model("olmoe")
    own = model.pathway(TEXT)
    read = Pathway.load(model.with_origin(own, TEXT).save(tmp_path / "own.safetensors"))
    assert torch.equal(read.weights, own.weights)
    assert torch.equal(read.own, own.own)


def test_a_distribution_is_saved_with_its_gate(tmp_path):
    model = shared_model("olmoe")
    own = model.with_origin(model.pathway([TEXT, "Is it so?"]), [TEXT, "Is it so?"])
    path = replace(own, router=own.router.flip(-1)).save(tmp_path / "omega.safetensors")
    read = Pathway.load(path)
    assert torch.equal(read.router, own.router.flip(-1))
    assert torch.equal(read.weights, replace(own, router=own.router.flip(-1)).weights)
    rewrite(path, {"scale": torch.ones(2, 3, 8)})
    with pytest.raises(DataError, match="expected finite router, own, bias, scale of one shape"):
        Pathway.load(path)


def test_left_alone_it_is_read(file):
    rewrite(file)
    assert Pathway.load(file).origin.name == "olmoe"
    rewrite(file, card=changed_card(file, note="of another program"))
    assert Pathway.load(file).origin.name == "olmoe"


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 100, b"\xff" * 8, b"\x08\0\0\0\0\0\0\0{}      "], ids=repr)
def test_no_safetensors(file, content):
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"omega\.safetensors.*save it again: model\.with_origin"):
        Pathway.load(file)


def test_cut_short_or_not_there(file):
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="is cut short or altered"):
        Pathway.load(file)
    for path in (file.with_name("nothing"), file.parent):
        with pytest.raises(DataError, match=r"the file of a pathway at .*, but there is none"):
            Pathway.load(path)


def test_pickles_are_refused(file):
    torch.save({"router": torch.ones(3, 8)}, file)
    with pytest.raises(DataError, match="is cut short or altered"):
        Pathway.load(file)


def test_other_tensors(file):
    rewrite(file, key="format")
    with pytest.raises(DataError, match="the file of a pathway, got other tensors"):
        Pathway.load(file)


@pytest.mark.parametrize(("changes", "message"), [
    ({"schema_version": 3}, "schema_version 2 at most, got 3, of a later version; update c3po_adaptive"),
    ({"schema_version": "1"}, "schema_version"),
    ({"schema_version": None}, "schema_version"),
    ({"layers": [0, 1]}, r"L = 2, got \(3, 8\)"),
    ({"layers": "all"}, "layers"),
    ({"scope": "everywhere"}, f"a scope among {', '.join(get_args(Scope))}, got 'everywhere'"),
    ({"top_k": 0}, "top_k"),
    ({"origin": None}, "origin"),
    ({"origin": {}}, r"origin\.model"),
], ids=str)  # fmt: skip
def test_other_cards(file, changes, message):
    rewrite(file, card=changed_card(file, **changes))
    with pytest.raises(DataError, match=message):
        Pathway.load(file)


@pytest.mark.parametrize(("changes", "message"), [
    ({"model": ""}, r"origin\.model"), ({"model": "../x"}, r"origin\.model"), ({"model": 5}, r"origin\.model"),
    ({"prompts": []}, "one text for each of 1 samples, got 0"), ({"texts": ["a", "b"]}, "2 texts for 1 prompts"),
    ({"base_model": "x\n---\nlicense: mit"}, r"origin\.base_model"), ({"base_model": "a/b\n"}, r"origin\.base_model"),
    ({"versions": {"torch": None}}, r"origin\.versions"),
], ids=str)  # fmt: skip
def test_other_origins(file, changes, message):
    _, found = read_pathway(file)
    rewrite(file, card=changed_card(file, origin=found.origin.model_dump() | changes))
    with pytest.raises(DataError, match=message):
        Pathway.load(file)


@pytest.mark.parametrize("card", ["", "[]", "5", "{", "null", "[" * 100_000], ids=lambda card: card[:5])
def test_cards_that_are_none(file, card):
    rewrite(file, card=card)
    with pytest.raises(DataError, match=r"omega\.safetensors: expected"):
        Pathway.load(file)


@pytest.mark.parametrize("tensors", [
    {"router": torch.ones(3, 7)}, {"router": torch.full((3, 8), torch.nan)}, {"router": -torch.ones(3, 8)},
    {"own": torch.full((3, 8), torch.inf)}, {"own": -torch.ones(3, 8)}, {"router": torch.ones(3, 8).int()},
    {"router": torch.ones(8), "own": torch.ones(8)}, {"router": torch.ones(2, 3, 8), "own": torch.ones(2, 3, 8)},
    {"router": torch.tensor(1.0), "own": torch.tensor(1.0)},
    {"router": torch.ones(0, 3, 8), "own": torch.ones(0, 3, 8)},
], ids=lambda t: "-".join(f"{k}{tuple(v.shape)}" for k, v in t.items()))  # fmt: skip
def test_tensors_that_are_no_pathway(file, tensors):
    rewrite(file, tensors)
    with pytest.raises(C3POError):
        Pathway.load(file)


def test_a_folder_that_cannot_be_written(cards, file):
    pathway = Pathway.load(file)
    for path in (file / "inside", file / "in" / "side"):
        with pytest.raises(DataError, match="choose a writable folder"):
            pathway.save(path)
        with pytest.raises(DataError, match="choose a writable folder"):
            pathway.save_pretrained(path)
    assert Pathway.load(file).origin == pathway.origin
