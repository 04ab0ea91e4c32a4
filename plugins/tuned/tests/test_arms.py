"""The arms that this companion brings: by name, as any answerer, and told apart by their own code."""

from pathlib import Path

import c3po_tuned
import pytest
from c3po_tuned import LoRA, PrefixTuning, PromptTuning, RouterTuning, Tent

from c3po_adaptive import default_registry
from c3po_adaptive.storage.identity import digest_of_file
from c3po_adaptive.storage.kept import code_of
from c3po_adaptive.testing import AnswererContract

NAMES = ["lora", "prefix-tuning", "prompt-tuning", "router-tuning", "tent"]
EACH = {
    "tent": Tent(steps=2, lr=1e-2),
    "lora": LoRA(epochs=2, r=2, lr=1e-2),
    "lora of the experts": LoRA(epochs=2, r=2, lr=1e-2, targets="experts", layers=(1, 2)),
    "lora of all linear layers": LoRA(epochs=2, r=2, lr=1e-2, targets="linear", layers=(1,)),
    "router-tuning": RouterTuning(epochs=2, lr=1e-2, layers="all"),
    "prompt-tuning": PromptTuning(epochs=2, tokens=4, lr=5e-2),
    "prefix-tuning": PrefixTuning(epochs=2, tokens=4, lr=5e-2),
}


class TestEach(AnswererContract):
    """As they come, they keep it in ``tests/testing/test_findings.py``."""

    @pytest.fixture(params=EACH.values(), ids=EACH)
    def answerer(self, request):
        return request.param


def test_they_come_by_the_entry_point():
    registry = default_registry()
    assert sorted(entry.name for entry in registry.table() if entry.plugin == "tuned") == NAMES
    assert registry.create("answerer", {"name": "lora", "layers": [0, 2]}) == LoRA(layers=(0, 2))


def test_another_arm_s_file_is_not_its_code():
    """An edit of one arm trains no other again; what it shares with others is its own."""
    files = {path.stem: digest_of_file(path)[:16] for path in Path(c3po_tuned.__file__).parent.glob("*.py")}
    code = {*code_of(LoRA())}
    assert {files["lora"], files["base"], files["exchange"]} <= code
    assert not {files["router_tuning"], files["soft_prompts"], files["prefixes"], files["tent"]} & code
