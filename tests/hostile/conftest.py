"""Where most hostile tests are at work."""

import json

import pytest
from hostile.doors import question

from c3po_adaptive.testing import write_tiny_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The current folder, with a model, references and test questions; the cache is in it, too."""
    folder = tmp_path_factory.mktemp("hostile")
    write_tiny_checkpoint(folder / "model", "olmoe")
    for name, count in (("references", 12), ("test", 4)):
        rows = [json.dumps(question(f"{name}{i}", i % 2, f"Is {i} odd, as {name} say?")) for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield folder
