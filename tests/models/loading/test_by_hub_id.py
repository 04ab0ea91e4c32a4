"""Models by their Hub id: the real download path, against a hub on this machine."""

import json
import os
import re
import subprocess
import sys

import pytest
from models.loading.hub import serving

from c3po_adaptive.testing import write_tiny_checkpoint

LOAD = """
import json, sys
from c3po_adaptive import C3POError, load_moe_model
found = []
for name, settings in json.loads(sys.argv[1]):
    try:
        model = load_moe_model(name, **settings)
        found.append([model.name, float(model.forward("Boats float").logits.sum())])
    except C3POError as error:
        found.append(f"{type(error).__name__}: {error}")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What several loads gave, in a process whose hub is the one here."""
    place = tmp_path_factory.mktemp("hub")
    folders = {r: write_tiny_checkpoint(place / r, "olmoe", seed=i) for i, r in enumerate(("main", "step-2"))}
    deepseek = write_tiny_checkpoint(place / "deepseek", "deepseek")
    repositories = {
        "someone/tiny-olmoe": folders,
        "allenai/OLMoE-1B-7B-0924": {"main": folders["main"]},
        "deepseek-ai/deepseek-moe-16b-base": {"main": deepseek},
    }
    wanted = {
        "id": ["someone/tiny-olmoe", {}],
        "revision": ["someone/tiny-olmoe", {"revision": "step-2"}],
        "OLMoE": ["OLMoE", {}],
        "DeepSeekMoE": ["DeepSeekMoE", {}],
        "no revision": ["someone/tiny-olmoe", {"revision": "step-9"}],
        "no model": ["someone/else", {}],
        "gated": ["someone/gated", {}],
    }
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    with serving(repositories, gated=("someone/gated",)) as address:
        done = subprocess.run(
            [sys.executable, "-c", LOAD, json.dumps(list(wanted.values()))],
            env=environment | {"HF_ENDPOINT": address, "HF_HOME": str(place / "home"), "HF_HUB_DISABLE_XET": "1"},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(wanted, json.loads(done.stdout.splitlines()[-1]), strict=True))


def test_by_id_revision_and_alias(results):
    assert results["id"][0] == "someone/tiny-olmoe"
    assert results["OLMoE"] == ["OLMoE", results["id"][1]]
    assert results["revision"][1] != results["id"][1]
    assert results["DeepSeekMoE"][0] == "DeepSeekMoE"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no revision", "ModelError: Could not load 'someone/tiny-olmoe': .*step-9"),
        ("no model", "ModelError: Could not load 'someone/else': .*Expected .*a Hub id you may access"),
        (
            "gated",
            "ModelError: Could not load 'someone/gated': .*gated repo.*Access to model someone/gated is restricted",
        ),
    ],
)
def test_refusals_are_passed_on(results, case, message):
    assert re.match(message, results[case], re.DOTALL), results[case]
