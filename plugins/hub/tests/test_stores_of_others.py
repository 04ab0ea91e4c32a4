"""Another store than the Hub gets the Hub's card."""

import torch

from c3po_adaptive import Pathway
from c3po_adaptive.storage import hub
from c3po_adaptive.storage.pathway_file import Origin

ORIGIN = Origin(model="ab", name="toy", dtype="float32", prompts=("cd",), versions={})
PATHWAY = Pathway(torch.ones(2, 4), torch.ones(2, 4), (0, 1), origin=ORIGIN)


def test_anothers_is_called_by_its_names(install_package, tmp_path):
    """What is pushed there has the Hub's card, and comes back."""
    install_package(
        "a_shelf",
        f"""
from pathlib import Path

SHELF = Path({str(tmp_path / "shelf")!r})

def push(name, repo_type, *, write, replaces, **options):
    write(SHELF, name)
    assert replaces(SHELF / "README.md")
    return repo_type, options

def fetch(name, repo_type, files, *, revision, token):
    assert (name, repo_type, revision) == ("mine://shelf", "model", "v1")
    return SHELF
""",
        hub.STORES,
        "mine",
        "a_shelf",
    )
    kind, options = PATHWAY.push_to_hub("mine://shelf", license="mit")
    assert kind == "model" and options == {"private": None, "token": None, "commit_message": "Upload Pathway"}
    assert "Pathway.from_pretrained('mine://shelf')" in (tmp_path / "shelf" / "README.md").read_text()
    assert torch.equal(Pathway.from_pretrained("mine://shelf", revision="v1").weights, PATHWAY.weights)
