"""Models that installed packages make, and what they know of checkpoints."""

import pytest

from c3po_adaptive.errors import ModelError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.models.names import ours
from c3po_adaptive.testing import write_tiny_checkpoint

READ = """
def read(folder):
    said = (folder / "note.txt").read_text()
    return lambda model: setattr(model, "note", said) or model
"""


def test_what_lies_beside_weights_is_told_to_who_knows_it(install_package, tmp_path):
    install_package("knowing", READ, "c3po_adaptive.beside", "note.txt", "knowing:read")
    folder = write_tiny_checkpoint(tmp_path / "model", "olmoe")
    assert not hasattr(load_moe_model(folder), "note")
    (folder / "note.txt").write_text("mended")
    assert load_moe_model(folder).note == "mended"


def test_a_variant_of_the_embedded_model_is_a_name_like_ours(install_package, monkeypatch):
    with pytest.raises(ModelError, match="got 'smollm2-moe-mine'; did you mean 'smollm2-moe"):
        load_moe_model("smollm2-moe-mine")
    mine = "def mine(model):\n    return [model]\n"
    install_package("varied", mine, "c3po_adaptive.variants", "smollm2-moe-mine", "varied:mine")
    assert "smollm2-moe-mine" in ours()
    load = load_moe_model
    monkeypatch.setattr("c3po_adaptive.models.loading.load_moe_model", lambda name, **how: (name, how["dtype"]))
    assert load("smollm2-moe-mine", dtype="float32") == [("smollm2-moe", "float32")]
