"""How the harness comes to know ``c3po``: by the entry point, by ``register``, by ``python -m``; or why it does not."""

import json
import sys
import tomllib
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GROUP = "lm_eval.models"


def entry_point():
    """As an installed package's metadata has it."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert list(table[GROUP]) == ["c3po"]
    return EntryPoint("c3po", table[GROUP]["c3po"], GROUP)


def test_the_entry_point_is_a_language_model_of_the_harness():
    """What its loader of entry points does (lm-evaluation-harness, pull request 4013): each is registered unloaded, by
    its name, in a registry that loads it when it is asked for, and refuses what is no ``LM``."""
    pytest.importorskip("lm_eval", reason="the extra eval is not installed")
    from lm_eval.api.model import LM
    from lm_eval.api.registry import Registry

    registry = Registry("model", base_cls=LM)
    found = entry_point()
    registry.register(found.name, target=found)
    made = registry.get("c3po")
    assert issubclass(made, LM)
    assert made.__name__ == "C3POLM"
    for method in ("create_from_arg_string", "create_from_arg_obj"):
        assert callable(getattr(made, method))


def test_their_own_loader_finds_it(monkeypatch):
    registry = pytest.importorskip("lm_eval.api.registry", reason="the extra eval is not installed")
    if not hasattr(registry, "load_plugins"):
        pytest.skip("this release of lm_eval does not look for entry points: they came after 0.4.13")
    monkeypatch.setattr(registry.md, "entry_points", lambda group: [entry_point()] if group == GROUP else [])
    monkeypatch.setattr(registry, "_loaded_plugin_groups", set())
    fresh = registry.Registry("model")
    assert registry.load_plugins(GROUP, fresh) == ["c3po"]
    assert fresh.get("c3po").__name__ == "C3POLM"


def test_register_leaves_alone_what_the_entry_point_did():
    pytest.importorskip("lm_eval", reason="the extra eval is not installed")
    from c3po_harness import C3POLM, register
    from lm_eval.api.registry import get_model, model_registry

    for _ in range(2):
        register()
    assert get_model("c3po") is C3POLM
    assert "hf" in model_registry


def test_without_the_harness_everything_else_is_there(monkeypatch):
    import c3po_harness as ours

    from c3po_adaptive.errors import ArtifactError
    from c3po_adaptive.tasks import questions

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    for door in (ours.register, lambda: ours.C3POLM, lambda: questions("lm_eval:arc_easy:test")):
        with pytest.raises(ArtifactError, match=r"pip install 'c3po_adaptive\[eval\]'"):
            door()
    with pytest.raises(AttributeError, match="no attribute 'C3P0LM'"):
        ours.C3P0LM  # noqa: B018


def test_the_command_hands_over(tmp_path, monkeypatch, capsys):
    """Three kinds of task through the harness's own command line, from files alone (docs/howto has it as a command)."""
    pytest.importorskip("lm_eval", reason="the extra eval is not installed")
    import lm_eval.tasks
    from c3po_harness.__main__ import main
    from local_tasks import write_tasks

    from c3po_adaptive.testing import write_tiny_checkpoint

    kinds = ["options", "texts", "generation"]
    folder, model = write_tasks(tmp_path, kinds), write_tiny_checkpoint(tmp_path / "model", "olmoe")
    said = (
        f"--model c3po --model_args pretrained={model} --tasks {','.join(kinds)} --include_path {folder} --batch_size 4"
    )
    monkeypatch.setattr(
        sys, "argv", ["lm_eval", *said.split(), "--output_path", str(tmp_path / "out"), "--log_samples"]
    )
    ours_alone = partial(
        lm_eval.tasks.TaskManager, include_defaults=False
    )  # all of theirs are looked through for seconds
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", ours_alone)
    main()
    printed = capsys.readouterr().out
    assert all(f"|{kind}" in printed for kind in kinds)
    (results,) = (tmp_path / "out").glob("*/results_*.json")
    assert json.loads(results.read_text())["config"]["model"] == "c3po"
    assert len([*results.parent.glob("samples_*.jsonl")]) == 3


def test_errors_end_the_command_with_their_message_alone(monkeypatch, capsys):
    pytest.importorskip("lm_eval", reason="the extra eval is not installed")
    import lm_eval.__main__
    from c3po_harness.__main__ import main

    from c3po_adaptive.errors import SettingError

    def fail():
        raise SettingError("Expected this, got that.")

    monkeypatch.setattr(lm_eval.__main__, "cli_evaluate", fail)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == "error: Expected this, got that."
