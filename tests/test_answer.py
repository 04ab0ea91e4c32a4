"""The study of when choosing a pathway per question pays: what was asked, and what its numbers are made of."""

import json
from pathlib import Path

import pytest
import yaml
from answer import gate

from c3po_adaptive.tasks.bed import LEARNED

ANSWER = Path(__file__).parents[1] / "studies" / "answer"


def test_what_is_asked_follows_from_the_gate():
    above = json.loads(gate.ABOVE.read_text())
    config = yaml.safe_load((ANSWER / "config.yaml").read_text())
    assert config["datasets"] == gate.data(above)
    assert len(above) == 87


def test_the_gate_counts_points_above_chance():
    class Answer:
        def __init__(self, subject, correct, choices):
            self.subject, self.correct, self.scores = subject, correct, [0.0] * choices

    answers = [Answer("a", True, 4), Answer("a", False, 4), Answer("b", False, 2)]
    assert gate.above_chance(answers) == {"a": pytest.approx(25.0), "b": pytest.approx(-50.0)}


def test_what_experts_learned_is_asked_most():
    data = {d["name"]: d for d in gate.data(dict.fromkeys(("sciq", *LEARNED), 10.0) | {"aqua_algebra": 4.9})}
    assert data["learned"]["limit"] == 18 * len(LEARNED)
    assert data["others"]["questions"] == "bed:sciq"
    assert all("aqua_algebra" not in str(d) for d in data.values())
