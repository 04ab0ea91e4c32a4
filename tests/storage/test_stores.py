"""Where sets and pathways are kept that are not here: what installed packages bring, by the beginning of a name."""

import pytest
import torch

from c3po_adaptive import ArtifactError, Pathway
from c3po_adaptive.storage import hub
from c3po_adaptive.storage.pathway_file import Origin

ORIGIN = Origin(model="ab", name="toy", dtype="float32", prompts=("cd",), versions={})
PATHWAY = Pathway(torch.ones(2, 4), torch.ones(2, 4), (0, 1), origin=ORIGIN)


def test_where_nothing_brings_the_hub_what_does_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "entry_points", lambda **asked: ())
    for use in (lambda: Pathway.from_pretrained("a/b"), lambda: PATHWAY.save_pretrained(tmp_path / "new")):
        with pytest.raises(ArtifactError, match="plugins/hub"):
            use()
    assert not (tmp_path / "new").exists()
