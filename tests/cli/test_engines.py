"""``--engine NAME``: what computes a study's pieces is found by name, whoever brings it."""

from collections import namedtuple
from types import SimpleNamespace

import pytest

from c3po_adaptive import hookimpl
from c3po_adaptive.cli.options import EngineOptions
from c3po_adaptive.errors import PluginError, SettingError, UnknownNameError
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study import HERE


class Mine(namedtuple("Mine", ["address", "workers"])):
    def map(self, compute, pieces):
        yield from ()


@pytest.fixture
def registry():
    made = new_registry(installed=False)
    engines = {"mine": Mine, "none": lambda address, workers: "nothing"}
    made.register(SimpleNamespace(register_executors=hookimpl(lambda: engines)), "plugin-a")
    return made


def test_a_plugins_engine_is_made_of_the_options(registry):
    assert EngineOptions("mine", "there", 2).executor(registry) == Mine("there", 2)
    assert EngineOptions("mine").executor(registry) == Mine(None, None)
    assert EngineOptions().executor(registry) is HERE


def test_what_is_no_engine_is_refused(registry):
    with pytest.raises(UnknownNameError, match=r"an engine, got 'mime'; did you mean 'mine'.*local, mine, none\."):
        EngineOptions("mime").executor(registry)
    with pytest.raises(PluginError, match=r"engine 'none' to be an executor, .* got 'nothing'"):
        EngineOptions("none").executor(registry)
    with pytest.raises(SettingError, match="--engine ray beside --address or --workers, got the local engine"):
        EngineOptions(workers=2).executor(registry)


def test_without_its_companion_ray_says_where_it_is(registry):
    with pytest.raises(UnknownNameError, match=r"an engine, got 'ray'; .*plugins/ray, .*\(pip install \.\)"):
        EngineOptions("ray").executor(registry)
