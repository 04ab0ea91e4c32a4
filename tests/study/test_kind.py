"""Kinds of study: what runs them knows none by name, and plugins bring others."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from study.configs import registry

import c3po_adaptive.cli
from c3po_adaptive.errors import PluginError, UnknownNameError
from c3po_adaptive.hookspecs import hookimpl
from c3po_adaptive.registry import new_registry
from c3po_adaptive.storage.run_folder import files_of
from c3po_adaptive.study import Settings, Study, kind
from c3po_adaptive.study.kinds import kind_of, kinds, read_study

CLI = Path(c3po_adaptive.cli.__file__).parent


def test_every_kind_is_told_by_its_name():
    assert {"comparison", "faithfulness", "faults", "speed"} <= kinds(registry()).keys()
    for name, study in kinds(registry()).items():
        assert study.kind == name
        assert study.config.model_fields["kind"].annotation.__args__ == (name,)


def test_unknown_kinds_are_refused_with_those_that_there_are():
    there = ", ".join(kinds(registry()))
    with pytest.raises(UnknownNameError, match=f"Expected a kind of study, got 'compairson'; .*There are {there}"):
        kind_of({"kind": "compairson"}, registry())


@pytest.mark.parametrize(
    "file",
    [*CLI.glob("*.py"), *(Path(kind.__file__).with_name(f"{name}.py") for name in ("kind", "kinds", "on_questions"))],
)
def test_nobody_else_names_them(file):
    names = re.findall(r"faithfulness|(?<!\w)speed(?!\w)", file.read_text())
    assert names == []


def test_a_kind_whose_plugin_is_not_loaded_says_to_load_it():
    said = r"got 'sure'; there is comparison; take one of these, or install or load the plugin .* \(--plugin FILE\)"
    with pytest.raises(UnknownNameError, match=said):
        kind_of({"kind": "sure"})


def brought(studies):
    """A registry with a plugin that brings them."""
    made = new_registry(installed=False)
    made.register(SimpleNamespace(register_studies=hookimpl(lambda: studies)), "plugin-a")
    return made


class Greeting(Settings):
    """A greeting."""

    kind: Literal["greeting"]


class Greetings(Study[Greeting]):
    """Another kind."""

    kind = "greeting"
    files = ("hello.json",)
    config = Greeting
    strategies = plan = run = draw = table = None


def test_plugins_bring_kinds(tmp_path):
    found, file = brought({"greeting": Greetings()}), tmp_path / "run.yaml"
    file.write_text("kind: greeting\n")
    study, config = read_study(file, registry=lambda: found)
    assert type(study) is Greetings
    assert config == Greeting(kind="greeting")
    assert files_of({"kind": "greeting"}) == ("hello.json",)
    with pytest.raises(UnknownNameError, match="got 'greeting'"):
        read_study(file)


def test_what_takes_long_to_import_is_brought_by_a_function():
    made = []
    found = brought({"greeting": lambda: made.append("greeting") or Greetings()})
    assert kind_of({}, found).kind == "comparison"
    assert made == [], "for a study of another kind it is not called"
    assert type(kinds(found)["greeting"]) is Greetings


@pytest.mark.parametrize("studies", [{"comparison": Greetings()}, {"greetings": Greetings()}, {"greeting": Greetings}])
def test_what_is_no_kind_is_refused(studies):
    with pytest.raises(PluginError, match="register_studies to bring objects of subclasses of Study"):
        kinds(brought(studies))


def test_a_kind_that_left_says_where_it_is():
    with pytest.raises(UnknownNameError, match=r"got 'speed'; .*--plugin studies/speed/kind\.py"):
        kind_of({"kind": "speed"})
    assert kind_of({"kind": "speed"}, registry()).kind == "speed"


def test_some_data_sets_of_a_configuration(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("datasets: [{name: a, questions: demo}, {name: b, questions: demo}, {name: c, questions: demo}]")
    assert [d.name for d in read_study(file, (), ("c", "a"))[1].datasets] == ["c", "a"]
    assert [d.name for d in read_study(file)[1].datasets] == ["a", "b", "c"]
    with pytest.raises(
        UnknownNameError, match="Expected a data set of the configuration, got 'd'; there are a, b, c; "
    ):
        read_study(file, (), ("d",))


def test_every_kind_writes_files_of_its_kind_alone():
    """As its code has it: a new kind that writes others says so in its ``files``."""
    for name, study in kinds(registry()).items():
        own = Path(inspect.getfile(type(study))).parent.glob("*.py")
        skeleton = [Path(inspect.getfile(base)) for base in type(study).__mro__ if base.__module__.startswith("c3po")]
        texts = [path.read_text() for path in {*own, *skeleton}]
        written = {name for text in texts for name in re.findall(r'write_text\((?:out|Path\(\w+\)) / "([\w.]+)"', text)}
        assert "summary.json" in written
        assert written <= {*files_of({"kind": name})}, name
