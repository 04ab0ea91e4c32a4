"""What differs is told apart, also where ``python -O`` leaves asserts out: processes, plugins, and what is kept."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from study.configs import FIXED, parse_config, small_study

from c3po_adaptive.errors import DataError
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study.comparison.run import evaluate
from c3po_adaptive.study.comparison.worker import ComparisonWorker
from c3po_adaptive.study.executor import Piece
from c3po_adaptive.testing import write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
PIECE = Piece("toy", "still", 0)


def plugin(name, says=0):
    """The text of a plugin that moves nothing."""
    return f"""
from dataclasses import dataclass
from typing import ClassVar
from c3po_adaptive import hookimpl
from c3po_adaptive.optimizers import NoStep

@dataclass(frozen=True)
class Still(NoStep):
    "Stays where it is: {says}."
    name: ClassVar[str] = "{name}"

@hookimpl
def register_optimizers():
    return [Still]
"""


def registry_of(*files):
    registry = new_registry()
    for file in files:
        registry.load_file(file)
    return registry


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def sent(place):
    """A worker as a process elsewhere gets it, that knows the run's inputs."""
    (place / "still.py").write_text(plugin("still"))
    raw = small_study(place).model_dump(mode="json")
    raw["arms"]["still"] = {"optimizer": "still", "selector": FIXED}
    worker = ComparisonWorker.here(parse_config(raw), registry_of(place / "still.py"))
    worker.inputs = worker._inputs
    return pickle.dumps(worker)


def another_model(place, sent):
    write_tiny_checkpoint(place / "model", "olmoe", seed=1)
    return sent


def another_plugin(place, sent):
    (place / "still.py").write_text(plugin("still", 1))
    return sent


def another_version(place, sent):
    worker = pickle.loads(sent)
    worker.inputs = worker.inputs | {"versions": worker.inputs["versions"] | {"torch": "1.0"}}
    return pickle.dumps(worker)


def another_question(place, sent):
    file = place / "test.jsonl"
    file.write_text(file.read_text().replace("where is", "what is"))
    return sent


def an_input_that_nobody_claimed(place, sent):
    worker = pickle.loads(sent)
    worker.inputs = {name: value for name, value in worker.inputs.items() if name != "plugins"}
    return pickle.dumps(worker)


OTHERS = {
    another_model: "model",
    another_plugin: "plugins",
    another_version: "versions",
    another_question: "questions",
    an_input_that_nobody_claimed: "plugins",
}


@pytest.mark.parametrize("change", OTHERS)
def test_a_worker_of_anything_else_refuses(place, sent, change):
    changed = pickle.loads(change(place, sent))
    for _ in range(2):
        with pytest.raises(DataError, match=f"run's own inputs, got another {OTHERS[change]} in this process"):
            changed(PIECE)


def test_a_worker_of_the_same_answers(sent):
    assert len(pickle.loads(sent)(PIECE)) == 3


OPTIMIZED = """
import pickle, sys
from c3po_adaptive.errors import DataError
from c3po_adaptive.study.executor import Piece
assert False, "left out"
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        worker = pickle.load(file)
    try:
        worker(Piece("toy", "still", 0))
        print("answers")
    except DataError as error:
        print(error)
"""


def optimized(code, *arguments):
    """The lines that code prints under ``python -O``."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-O", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_so_it_does_where_asserts_are_left_out(place, sent):
    files = []
    for change in (lambda place, sent: sent, another_version, an_input_that_nobody_claimed):
        files.append(place / f"{len(files)}.pickle")
        files[-1].write_bytes(change(place, sent))
    same, *others = optimized(OPTIMIZED, *files)
    assert same == "answers"
    assert [said.partition("got another ")[2].split()[0] for said in others] == ["versions", "plugins"]
    another_plugin(place, sent), another_model(place, sent)
    assert "got another model, plugins in this process" in optimized(OPTIMIZED, files[0])[0]


class TestPluginsOfOneName:
    @pytest.fixture
    def files(self, place):
        files = [place / folder / "mine.py" for folder in ("one", "two")]
        for file, name in zip(files, ("still", "calm"), strict=True):
            file.parent.mkdir()
            file.write_text(plugin(name))
        return files

    @pytest.mark.parametrize("edited", [0, 1])
    def test_an_edit_of_either_is_seen(self, files, edited):
        before = registry_of(*files).files
        assert registry_of(*reversed(files)).files == before
        files[edited].write_text(plugin(("still", "calm")[edited], 1))
        assert registry_of(*files).files != before

    def test_one_alone_goes_by_its_own_hash_as_before(self, files):
        import hashlib

        assert registry_of(files[0]).files["mine.py"] == hashlib.sha256(files[0].read_bytes()).hexdigest()
        assert registry_of(*files).files["mine.py"] != registry_of(files[0]).files["mine.py"]

    def test_a_run_is_not_resumed_with_another_text_of_the_first(self, place, files):
        raw = small_study(place).model_dump(mode="json")
        raw["arms"] = {"base": raw["arms"]["base"]} | {
            name: {"optimizer": name, "selector": FIXED} for name in ("still", "calm")
        }
        config = parse_config(raw)
        evaluate(config, place / "run", registry=registry_of(*files))
        before = (place / "run" / "records.jsonl").read_bytes()
        evaluate(config, place / "run", registry=registry_of(*files))
        files[0].write_text(plugin("still", 1))
        with pytest.raises(DataError, match=r"differ in inputs\.plugins"):
            evaluate(config, place / "run", registry=registry_of(*files))
        assert (place / "run" / "records.jsonl").read_bytes() == before
        assert json.loads((place / "run" / "config.json").read_text())["config"]["inputs"]["plugins"]["mine.py"]

    def test_a_text_of_the_same_length_in_the_same_second_is_another(self, place):
        """Bytecode that Python keeps goes by size and second."""
        file = place / "mine.py"
        for says in range(3):
            file.write_text(plugin("still", says))
            os.utime(file, (1_000_000_000, 1_000_000_000))
            (entry,) = [e for e in registry_of(file).table() if e.name == "still"]
            assert entry.help == f"Stays where it is: {says}."
