"""What transformers gives for ``output_router_logits=True``, family by family, held against what is read here."""

import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import transformers
from models.families.checks import moe_families

from c3po_adaptive import read_routing
from c3po_adaptive.models.family_table import families, table
from c3po_adaptive.testing import tiny_moe

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "router_logits.md"
IDS = torch.arange(5, 16)[None]
READ = [family for family in moe_families() if "refused" not in families().get(family, {"refused": "unknown"})]


def given(family):
    """The same, or what else; each in a word or two, as the page has them."""
    model = tiny_moe(family)
    ours = read_routing(model, {"input_ids": IDS}).logits[0]
    assert ours.isfinite().all()
    try:
        output = deepcopy(model)(IDS, use_cache=False, output_router_logits=True)
    except Exception as error:
        return f"an error ({type(error).__name__})"
    theirs = getattr(output, "router_logits", None)
    if theirs is None:
        return "nothing"
    if len(theirs) != ours.shape[1]:
        return f"{len(theirs)} parts for {ours.shape[1]} layers"
    made = torch.stack([part.reshape(-1, part.shape[-1]).float() for part in theirs], 1)
    if torch.allclose(made, ours, atol=1e-4, rtol=0):
        return "the same"
    return "probabilities" if torch.allclose(made.log(), ours, atol=1e-4, rtol=0) else "other numbers"


def of_page():
    """Families of the page's table, with what they are given."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(rows)


@pytest.mark.parametrize("family", READ)
def test_the_page_says_what_transformers_gives(family):
    """With the release that the page was written with; with others everything is read all the same."""
    found = given(family)
    if transformers.__version__ == table()["transformers"]:
        assert found == of_page().get(family, "the same")


def test_the_page_is_of_the_release_of_the_table():
    assert f"transformers {table()['transformers']}" in PAGE.read_text(encoding="utf-8")
    assert 1 < len(of_page()) < 10 and set(of_page()) <= set(READ)
