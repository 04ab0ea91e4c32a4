"""Commands that installed packages bring."""

import pytest
from typer.testing import CliRunner

from c3po_adaptive.cli import app


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that puts a package with one command on the path."""

    def write(name, text):
        (tmp_path / f"brings_{name}.py").write_text(text)
        info = tmp_path / f"brings_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: brings_{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[c3po_adaptive.commands]\n{name} = brings_{name}:{name}\n")

    monkeypatch.syspath_prepend(tmp_path)
    return write


def test_a_package_brings_one(install):
    install("greet", 'def greet(whom: str) -> None:\n    """Greet."""\n    print("hello", whom)\n')
    assert CliRunner().invoke(app, ["greet", "there"]).output == "hello there\n"
    assert " greet " in CliRunner().invoke(app, ["--help"]).output
    assert "completion" not in CliRunner().invoke(app, ["greet", "--help"]).output, "which is that of c3po"


def test_none_stands_in_the_place_of_ours(install):
    install("models", 'def models() -> None:\n    print("another")\n')
    assert "another" not in CliRunner().invoke(app, ["models", "--help"]).output


def test_a_broken_one_is_told_by_name(install):
    install("broken", "1 / 0\n")
    done = CliRunner().invoke(app, ["broken"])
    assert (
        done.exit_code == 1 and "'broken' to be loaded from brings_broken:broken, got ZeroDivisionError" in done.output
    )
