"""Settings of a study of faithfulness that name nothing, or add what there is, are refused as those of the core are."""

import pytest
from study.configs import registry

from c3po_adaptive.errors import SettingError
from c3po_adaptive.study.kinds import kinds

FAITHFULNESS = {
    "kind": "faithfulness",
    "datasets": [{"name": "d", "questions": "demo"}],
    "scores": {"gradient": "gradient"},
}


def parsed(*settings):
    return kinds(registry())["faithfulness"].parse(FAITHFULNESS, settings)


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("scores.confidence=router-confidence", None),
        ("scores.gradent.n=1", "gradient"),
        ("arm.optimzer.steps=1", "optimizer"),
    ],
)
def test_what_names_nothing_is_refused(setting, nearest):
    with pytest.raises(SettingError) as refused:
        parsed(setting)
    assert nearest is None or f"did you mean '{nearest}'" in str(refused.value)


@pytest.mark.parametrize("setting", ["scores.gradient.nn=1", "arm.kernel.sgima=1"])
def test_parameters_are_refused_by_whoever_makes_the_strategy(setting):
    with pytest.raises(SettingError, match=r"Expected parameters of .* got '\w+'"):
        list(kinds(registry())["faithfulness"].strategies(parsed(setting), registry()))


def test_what_is_new_is_written_with_a_plus():
    assert [*parsed("+scores.confidence=causal").scores] == ["gradient", "confidence"]
    with pytest.raises(SettingError, match="A new one is written"):
        parsed("scores.confidence=causal")
