"""What differs is told apart: processes, plugins, and what is kept."""

import json
import os
import pickle
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from hostile.doors import untouched
from routing.naive import routed_model
from routing.toys import HashEmbedder, questions
from safetensors.torch import load_file
from study.configs import FIXED, parse_config, registry_of, small_study
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError
from c3po_adaptive.hookspecs import PROJECT
from c3po_adaptive.optimizers._reference_artifacts import GRADIENT
from c3po_adaptive.references.artifacts import of_references
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.learned import damaged_beside, learned_once
from c3po_adaptive.references.prefill_store import build_store, open_store
from c3po_adaptive.references.reference_set import INDEX, ReferenceSet
from c3po_adaptive.registry import new_registry
from c3po_adaptive.settings import RemixSettings
from c3po_adaptive.storage.checksummed import save_checksummed
from c3po_adaptive.storage.kept import NAMED_TENSORS, kept
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker
from c3po_adaptive.study.executor import Piece
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")

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
        assert registry_of(files[0]).files["mine.py"] == sha256(files[0].read_bytes()).hexdigest()
        assert registry_of(*files).files["mine.py"] != registry_of(files[0]).files["mine.py"]

    def test_a_run_is_not_resumed_with_another_text_of_the_first(self, place, files):
        raw = small_study(place).model_dump(mode="json")
        raw["arms"] = {"base": raw["arms"]["base"]} | {
            name: {"optimizer": name, "selector": FIXED} for name in ("still", "calm")
        }
        config = parse_config(raw)
        STUDY.run(config, place / "run", registry=registry_of(*files))
        before = (place / "run" / "records.jsonl").read_bytes()
        STUDY.run(config, place / "run", registry=registry_of(*files))
        files[0].write_text(plugin("still", 1))
        with pytest.raises(DataError, match=r"differ in inputs\.plugins"):
            STUDY.run(config, place / "run", registry=registry_of(*files))
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


def test_a_run_is_of_the_installed_plugins_that_its_arms_name(place, install_package):
    """Nobody's other tools are a reason to begin anew."""
    install_package("c3po_calm", plugin("calm"), PROJECT, "calm", "c3po_calm")
    plain, there = small_study(place), new_registry()
    assert ComparisonWorker.here(plain, there).claim(place / "plain")["plugins"] == {}
    without = ComparisonWorker.here(plain, new_registry(installed=False))
    without.check_folder(place / "plain")
    without.claim(place / "plain")

    raw = plain.model_dump(mode="json")
    raw["arms"]["calm"] = {"optimizer": "calm", "selector": FIXED}
    (alone := new_registry(installed=False)).load_file(place / "c3po_calm.py")
    ComparisonWorker.here(parse_config(raw), alone).claim(place / "using")
    ComparisonWorker.here(parse_config(raw), there).claim(place / "using")  # begun by --plugin FILE, and goes on
    (place / "c3po_calm.py").write_text(plugin("calm", 1))
    edited = ComparisonWorker.here(parse_config(raw), new_registry())
    with pytest.raises(DataError, match=r"inputs\.plugins: c3po_calm\.py has another text than when it began\)"):
        edited.check_folder(place / "using")


def prompts_of(model):
    asked = questions(12)
    return [model.encode(q) for q in asked], [q.answer for q in asked]


def artifacts(folder):
    """What is kept beside a set, as another process reads it."""
    model = routed_model("olmoe")
    return of_references(GRADIENT, model, *prompts_of(model), model.prefill, RemixSettings(), folder=folder)


def learned(folder):
    return learned_once(ReferenceSet.load(folder), ["mine"], lambda: {"weights": torch.arange(6.0)})["weights"]


def index(folder):
    """What a retriever keeps of the vectors."""
    return kept(folder / INDEX, "of", lambda: {"vectors": torch.arange(6.0)}, NAMED_TENSORS)["vectors"]


def warm(folder):
    store = open_store(ReferenceSet.load(folder), routed_model("olmoe"), folder / "warm", "cloze")
    return store.states(store.prompts)[0].final


READERS = {"artifacts": artifacts, "learned": learned, "index": index, "warm": warm}


def file_of(folder, kind):
    return sorted(path for path in (folder / kind).iterdir() if path.suffix != ".json")[0]


def flipped(path):
    """One bit of its last number."""
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


DAMAGES = (flipped, cut)


@pytest.fixture(scope="module")
def whole_beside(tmp_path_factory):
    """A set in a folder, with one of each that is kept."""
    folder = tmp_path_factory.mktemp("beside") / "set"
    model = routed_model("olmoe")
    build_reference_set(model, questions(12), HashEmbedder()).save(folder)
    build_store(ReferenceSet.load(folder), model, folder / "warm")
    for read in READERS.values():
        read(folder)
    return folder


@pytest.fixture
def beside(whole_beside, tmp_path):
    return shutil.copytree(whole_beside, tmp_path / "beside")


class TestBesideASet:
    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("kind", READERS)
    def test_what_is_altered_is_refused_and_named(self, beside, kind, damage):
        path = file_of(beside, kind)
        damage(path)
        refusal = f"{path.name} is missing, cut short or altered.*(delete it, and it is|build it again)"
        with pytest.raises(DataError, match=refusal):
            READERS[kind](beside)
        (found,) = damaged_beside(ReferenceSet.load(beside))
        assert str(path) in found

    @pytest.mark.parametrize("kind", READERS)
    def test_deleted_as_the_error_says_it_is_computed_again(self, beside, kind):
        before, path = READERS[kind](beside), file_of(beside, kind)
        path.unlink()
        if kind == "warm":
            build_store(ReferenceSet.load(beside), routed_model("olmoe"), beside / "warm")
        torch.testing.assert_close(torch.as_tensor(READERS[kind](beside)), torch.as_tensor(before))
        assert file_of(beside, kind).suffix == path.suffix
        assert damaged_beside(ReferenceSet.load(beside)) == []

    def test_states_that_do_not_hold_are_made_anew(self, beside):
        flipped(file_of(beside, "warm"))
        build_store(ReferenceSet.load(beside), routed_model("olmoe"), beside / "warm")
        assert damaged_beside(ReferenceSet.load(beside)) == []

    @pytest.mark.parametrize("kind", READERS)
    def test_a_name_of_another_is_no_way_in(self, beside, kind):
        """What one owner computed, under the name that another's has."""
        path = file_of(beside, kind)
        of, _, seal = path.stem.rpartition(".")
        other = path.with_name(f"{of[:-1]}{'0' if of[-1] != '0' else '1'}.{seal}{path.suffix}")
        path.rename(other)
        assert any(other.name in said or path.name in said for said in damaged_beside(ReferenceSet.load(beside)))

    def test_the_command_names_every_file(self, beside):
        for kind in READERS:
            flipped(file_of(beside, kind))
        with untouched(beside):
            done = CliRunner().invoke(app, ["refset", "check", str(beside)])
        assert done.exit_code == 1
        assert all(file_of(beside, kind).name in done.stderr for kind in READERS)

    @pytest.mark.parametrize(
        "change",
        [
            lambda keys, values: {"keys": keys},
            lambda keys, values: {"keys": keys[:-1], "values": values},
            lambda keys, values: {"keys": keys[:0], "values": values[:0]},
            lambda keys, values: {"keys": keys.float(), "values": values},
            lambda keys, values: {"keys": keys, "values": values.sum()},
        ],
    )
    def test_shards_that_are_no_such_thing(self, beside, change):
        path = file_of(beside, "artifacts")
        tensors = load_file(path)
        save_checksummed(change(tensors["keys"], tensors["values"]), beside / "artifacts", path.stem.rpartition(".")[0])
        path.unlink()
        with pytest.raises(DataError, match=r"expected keys, uint8 \[N, …\], and values \[N, …\], got .*delete it"):
            artifacts(beside)

    def test_shards_of_two_shapes(self, beside):
        path = file_of(beside, "artifacts")
        tensors = load_file(path)
        other = {"keys": tensors["keys"], "values": tensors["values"][..., None]}
        save_checksummed(other, beside / "artifacts", path.stem.rpartition(".")[0])
        with pytest.raises(DataError, match=r"expected tensors like those beside it.*delete it"):
            artifacts(beside)
