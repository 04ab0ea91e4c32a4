"""Commands that installed packages bring."""

import pytest
from typer.testing import CliRunner

from c3po_adaptive.cli import app, commands
from c3po_adaptive.storage.run_folder import claim


@pytest.fixture
def install(install_package):
    """A function that puts a package with one command on the path."""

    def write(name, text, called=None):
        module = f"brings_{name}"
        install_package(module, text, commands.GROUP, called or name, f"{module}:{name}")

    return write


def test_a_package_brings_one(install):
    install("greet", 'def greet(whom: str) -> None:\n    """Greet."""\n    print("hello", whom)\n')
    assert CliRunner().invoke(app, ["greet", "there"]).output == "hello there\n"
    assert " greet " in CliRunner().invoke(app, ["--help"]).output
    assert "completion" not in CliRunner().invoke(app, ["greet", "--help"]).output, "which is that of c3po"


def test_a_package_brings_one_of_a_group(install):
    install("tell", 'def tell(whom: str) -> None:\n    """Tell."""\n    print("told", whom)\n', "study.tell")
    assert CliRunner().invoke(app, ["study", "tell", "all"]).output == "told all\n"
    assert " tell " in CliRunner().invoke(app, ["study", "--help"]).output
    assert " tell " not in CliRunner().invoke(app, ["--help"]).output
    assert (
        CliRunner().invoke(app, ["tell", "all"]).exit_code == CliRunner().invoke(app, ["refset", "tell"]).exit_code == 2
    )


def test_none_stands_in_the_place_of_ours(install):
    install("models", 'def models() -> None:\n    print("another")\n')
    assert "another" not in CliRunner().invoke(app, ["models", "--help"]).output


def test_a_broken_one_is_told_by_name(install):
    """And the list of all commands has the others."""
    install("broken", "1 / 0\n")
    done = CliRunner().invoke(app, ["broken", "--all", "words"])
    assert done.exit_code == 1 and "'broken' in brings_broken:broken, got ZeroDivisionError" in done.output
    assert " study " in CliRunner().invoke(app, ["--help"]).output


def test_a_plugin_draws_the_page_of_what_is_no_study(tmp_path):
    (tmp_path / "draws.py").write_text(
        "from c3po_adaptive import hookimpl\n\n\n@hookimpl\ndef register_reports():\n"
        '    return {"look": lambda folder: (folder / "report.html").write_text("drawn")}\n'
    )
    claim(tmp_path / "run", {"kind": "look"})
    plugin = ["--plugin", str(tmp_path / "draws.py")]
    assert CliRunner().invoke(app, ["report", str(tmp_path / "run"), *plugin]).exit_code == 0
    assert (tmp_path / "run" / "report.html").read_text() == "drawn"
    assert "kind of study, got 'look'" in CliRunner().invoke(app, ["report", str(tmp_path / "run")]).stderr


def test_a_command_of_a_companion_that_is_not_installed_says_where_it_is(monkeypatch):
    monkeypatch.setattr(commands, "entry_points", lambda **_: ())
    done = CliRunner().invoke(app, ["trace", "show", "a.parquet"])
    assert done.exit_code == 2 and "plugins/traces" in done.output
    assert "plugins/" not in CliRunner().invoke(app, ["traec"]).output


def plain(output):
    """Without the frame, and the lines that it is broken into."""
    return " ".join(output.translate(dict.fromkeys(map(ord, "╭─╮│╰╯"))).split())


def test_what_is_missing_is_said_with_what_it_is(install):
    install(
        "shout",
        "from typing import Annotated\nimport typer\n"
        'def shout(whom: str, words: Annotated[str, typer.Option(help="Said to whom.")]) -> None:\n    print(words)\n',
    )
    said = plain(CliRunner().invoke(app, ["shout", "there"]).output)
    assert "--words WORDS Try" in said and "Missing option '--words'. Said to whom." in said


@pytest.mark.parametrize("asked", ["facts.jsonl", "demo", "demo:validation"])
def test_questions_in_a_models_place_are_refused(install, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facts.jsonl").write_text("")
    brought = "from c3po_adaptive.cli import Named\ndef weigh(model: Named, asked: str) -> None:\n    print(model)\n"
    install("weigh", brought)
    done = CliRunner().invoke(app, ["weigh", asked, "OLMoE"])
    assert done.exit_code == 2 and f"got questions, {asked}; name a model first" in plain(done.output)
    assert CliRunner().invoke(app, ["weigh", "OLMoE", asked]).output == "OLMoE\n"
