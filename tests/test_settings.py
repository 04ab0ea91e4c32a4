"""RemixSettings: a value that does not exist is refused at every door, with those that do."""

from typing import get_args

import numpy as np
import pytest
import yaml
from remixing.test_remixer import remixer
from routing.toys import HashEmbedder
from study.configs import load_config, parse_config
from typer.testing import CliRunner

from c3po_adaptive import Optimizer
from c3po_adaptive.cli import app
from c3po_adaptive.errors import SettingError
from c3po_adaptive.settings import RemixSettings
from c3po_adaptive.study.arms import Arm
from c3po_adaptive.study.comparison import ComparisonConfig

FIELDS = RemixSettings.model_fields


def choices(name):
    """The values of a setting that has names for them."""
    return [value for value in get_args(FIELDS[name].annotation) if isinstance(value, str)]


def wrong():
    """Every value of every setting, misspelled in three ways; numbers out of their bounds, or no numbers."""
    for name in FIELDS:
        for value in choices(name):
            yield from ((name, text) for text in (value.capitalize(), value[:-1], f"{value} "))
    yield from (("seed", v) for v in (-1, 1.5, "zero", True, 2**63))
    yield from (("max_similarity", v) for v in (0, 1.01, -0.5, "high", True, None, float("nan")))


WRONG = list(wrong())
DOORS = {
    "mapping": RemixSettings.of,
    "copy": lambda given: RemixSettings().model_copy(update=given),
    "arm": lambda given: Arm(**given),
    "remixer": lambda given: remixer(**given),
    "optimizer": lambda given: Optimizer(None, settings=given, embedder=HashEmbedder()),
}


def expected(name):
    """What a refusal has to say: the setting, and its values if they have names."""
    return [name, *choices(name)]


def test_every_setting_is_here():
    names = ("scope", "transfer", "loss", "head", "mix", "pathway", "gradient")
    names += ("learn_from", "labels", "max_similarity", "seed")
    assert tuple(FIELDS) == names
    assert {name for name, _ in WRONG} == set(FIELDS)


@pytest.mark.parametrize(("name", "value"), WRONG, ids=repr)
def test_what_there_is_not_is_refused(name, value):
    with pytest.raises(SettingError) as refused:
        RemixSettings(**{name: value})
    assert all(word in str(refused.value) for word in expected(name))


@pytest.mark.parametrize(("name", "value"), dict(WRONG).items(), ids=repr)
class TestEveryDoor:
    """With one wrong value of each setting."""

    @pytest.mark.parametrize("door", DOORS)
    def test_in_python(self, name, value, door):
        with pytest.raises(SettingError) as refused:
            DOORS[door]({name: value})
        assert all(word in str(refused.value) for word in expected(name))

    def test_in_yaml(self, name, value, tmp_path):
        for raw in ({name: value}, {"arms": {"base": {"optimizer": "none"}, "own": {name: value}}}):
            (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw))
            with pytest.raises(SettingError) as refused:
                load_config(tmp_path / "run.yaml")
            assert all(word in str(refused.value) for word in expected(name))

    def test_on_the_command_line(self, name, value, tmp_path):
        (tmp_path / "run.yaml").write_text("model: nowhere\n")
        command = ["study", "run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]
        done = CliRunner().invoke(app, [*command, "--set", f"{name}={yaml.safe_dump(value).splitlines()[0]}"])
        assert done.exit_code == 1
        assert all(word in done.output for word in expected(name))
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", FIELDS)
def test_unknown_keys_are_refused_with_the_nearest(name):
    with pytest.raises(SettingError, match=f"an unknown key; did you mean {name!r}"):
        RemixSettings.of({name[:-1]: 1})


def test_neither_record_nor_mapping():
    with pytest.raises(SettingError, match="Expected RemixSettings, or a mapping with keys among scope"):
        RemixSettings.of("answer")


def test_numbers_of_numpy_are_numbers():
    assert RemixSettings(seed=np.int64(3)) == RemixSettings(seed=3)


def test_settings_of_a_run_hold_for_arms_that_say_nothing():
    arms = {"base": {"optimizer": "none"}, "own": {"seed": 5, "loss": "choices"}}
    config = parse_config({"seed": 3, "loss": "lead", "arms": arms})
    assert (config.arms["base"].seed, config.arms["base"].loss) == (3, "lead")
    assert (config.arms["own"].seed, config.arms["own"].loss) == (5, "choices")
    plain = config.model_dump(mode="json")
    assert "seed" not in plain["arms"]["base"], "said once"
    assert plain["arms"]["own"]["seed"] == 5
    assert parse_config(plain) == config


def test_arms_that_are_records_take_the_runs_settings_too():
    config = ComparisonConfig(seed=3, arms={"base": Arm(optimizer="none"), "own": Arm(seed=5)})
    assert (config.arms["base"].seed, config.arms["own"].seed) == (3, 5)
