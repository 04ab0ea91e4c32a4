"""Three sentences on a sound model and a broken one, from what their runs say."""

import pytest
from records.made import answered, summarize

from c3po_adaptive.records.summary import Summary
from c3po_adaptive.study.two_models import MEANS, three_sentences


def run(base, arm, n=200):
    """Of the first so many questions the base is right, and the arm; of all others wrong."""
    counts = {"base": base, "nearest": arm}
    records = [answered(arm=name, id=f"q{i}", correct=i < counts[name]) for name in counts for i in range(n)]
    return Summary.model_validate(summarize(records, config={}, seed=0))


@pytest.mark.parametrize("broken", [-1, 0, 1])
@pytest.mark.parametrize("sound", [-1, 0, 1])
def test_what_is_said_follows_from_both(broken, sound):
    runs = run(140, 140 + 30 * sound), run(100, 100 + 30 * broken)
    found = three_sentences(*runs, "nearest", "all broken", "Next: go on.")
    assert found[0].startswith("Found: with all broken the model answers 20.0 points less right, and nearest changes ")
    assert f"{15.0 * broken:+.1f} [" in found[0].split(";")[0]
    assert f"{15.0 * sound:+.1f} [" in found[0].split(";")[1]
    assert found[1].startswith(MEANS[broken, sound])
    assert ("On the broken copy: harms." in found[1]) == (broken == -1)
    assert found[2] == "Next: go on."
    assert len(set(MEANS.values())) == len(MEANS) == 9
