"""What a run refuses of passages, its plan refuses."""

import pytest
from hostile.test_plans import is_refused_by


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize(
    ("answerer", "said"),
    [
        ("{name: informed, passages: PLACE/nowhere.txt}", "nowhere.txt does not exist"),
        ("{name: informed, passages: PLACE/broken.jsonl}", "expected one JSON object per line"),
        ("{name: joint, passages: PLACE/empty.txt}", "expected at least one passage"),
    ],
)
def test_an_arm_that_cannot_be(tmp_path, verb, answerer, said):
    is_refused_by(verb, answerer, said, tmp_path)
