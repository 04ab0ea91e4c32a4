"""An arm's controls, of which the base with its scores corrected is one: they are run, and are told to be its own."""

import pytest
from hostile.test_plans import is_refused_by
from study.comparison.test_run import ARMS, CONTROLS, SMALL, config, evaluate, place  # noqa: F401 (a fixture)
from study.configs import parse_config

pytestmark = pytest.mark.usefixtures("undrawn")


def test_of_a_re_mixing_arm(place, tmp_path):  # noqa: F811
    arms = {"base": ARMS["base"], "method": {"optimizer": {"name": "ngd", "steps": 2}, "selector": SMALL}}
    given = config(arms=arms).model_dump(mode="json") | {"arms": arms, "controlled": ["method"]}
    own = [f"method, {control}" for control in CONTROLS]
    shared = ["constant", "calibrated", "core mixed"]
    summary = evaluate(parse_config(given), tmp_path / "run")
    found = {row["arm"]: row for row in summary["rows"]}
    assert sorted(found["method"]["controls"]) == sorted([*own, *shared])
    assert found["constant"]["controls"] == ["calibrated", "core mixed"]
    assert all(found[name]["controls"] == [] for name in ("base", *own, "method, oracle", "calibrated", "core mixed"))
    assert all(found[name]["verdict"] is None for name in ("base", *own, "method, oracle", "core mixed"))
    beside = {c["b"] for c in summary["comparisons"] if c["a"] == "method"}
    assert beside == {"base", *own, *shared}


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_rule_whose_scores_are_corrected_is_tried_before(verb, tmp_path):
    corrected = "{name: surface-logit, of: {name: rule, rule: 'ban:0-3;ban:4-7@1'}}"
    is_refused_by(verb, corrected, "2 experts left in MoE layer 1, which", tmp_path)
