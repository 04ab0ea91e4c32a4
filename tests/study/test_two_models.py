"""Three sentences on a merged model and the shipped one, from what their runs say."""

import pytest
from records.made import answered, summarize

from c3po_adaptive.records.summary import Summary
from c3po_adaptive.study.two_models import MEANS, three_sentences


def run(base, arm, n=200):
    """Of the first so many questions the base is right, and the arm; of all others wrong."""
    counts = {"base": base, "nearest": arm}
    records = [answered(arm=name, id=f"q{i}", correct=i < counts[name]) for name in counts for i in range(n)]
    return Summary.model_validate(summarize(records, config={}, seed=0))


@pytest.mark.parametrize("merged", [-1, 0, 1])
@pytest.mark.parametrize("shipped", [-1, 0, 1])
def test_what_is_said_follows_from_both(merged, shipped):
    runs = run(100, 100 + 30 * merged), run(140, 140 + 30 * shipped)
    found = three_sentences(*runs, "nearest", 480, "Next: go on.")
    assert found[0].startswith("Found: merged by prompts the model answers 50.0 % right; with 480 labeled questions")
    assert f"by nearest, {50.0 + 15 * merged:.1f} %: {15.0 * merged:+.1f} [" in found[0].split("As shipped")[0]
    assert f"{15.0 * shipped:+.1f} [" in found[0].split("As shipped")[1]
    assert found[1].startswith(MEANS[merged, shipped])
    assert ("Merged: harms." in found[1]) == (merged == -1)
    assert found[2] == "Next: go on."
    assert len(set(MEANS.values())) == len(MEANS) == 9
