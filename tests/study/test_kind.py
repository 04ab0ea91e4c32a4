"""Kinds of study are folders: what runs them knows none by name."""

import re
from pathlib import Path

import pytest

import c3po_adaptive.cli
from c3po_adaptive.errors import UnknownNameError
from c3po_adaptive.study import kind

CLI = Path(c3po_adaptive.cli.__file__).parent


def test_every_folder_is_a_kind():
    assert sorted(kind.kinds()) == ["comparison", "faithfulness", "faults", "speed"]
    for name, study in kind.kinds().items():
        assert study.kind == name
        assert study.config.model_fields["kind"].annotation.__args__ == (name,)


def test_unknown_kinds_are_refused_with_those_that_there_are():
    with pytest.raises(UnknownNameError, match=f"Expected a kind of study among {', '.join(kind.kinds())}, got"):
        kind.kind_of({"kind": "speeed"})


@pytest.mark.parametrize("file", [*CLI.glob("*.py"), Path(kind.__file__), Path(kind.__file__).with_name("config.py")])
def test_nobody_else_names_them(file):
    names = re.findall(r"faithfulness|(?<!\w)speed(?!\w)", file.read_text())
    assert names == []


def test_a_new_folder_is_a_new_kind(tmp_path, monkeypatch):
    """Nothing else has to be touched: the recipe in CONTRIBUTING.md."""
    folder = tmp_path / "greeting"
    folder.mkdir()
    (folder / "__init__.py").write_text("STUDY = 'a study'\n")
    monkeypatch.setattr(kind, "__file__", str(tmp_path / "kind.py"))
    monkeypatch.setattr(kind, "__package__", "")
    monkeypatch.setattr(kind, "import_module", lambda name, package: __import__(name.lstrip(".")))
    monkeypatch.syspath_prepend(tmp_path)
    assert kind.kinds.__wrapped__() == {"greeting": "a study"}


def test_some_data_sets_of_a_configuration(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("datasets: [{name: a, questions: demo}, {name: b, questions: demo}, {name: c, questions: demo}]")
    assert [d.name for d in kind.read_study(file, (), ("c", "a"))[1].datasets] == ["c", "a"]
    assert [d.name for d in kind.read_study(file)[1].datasets] == ["a", "b", "c"]
    with pytest.raises(UnknownNameError, match="Expected a data set among a, b, c, got 'd'"):
        kind.read_study(file, (), ("d",))
