"""What workers elsewhere are sent: contents, which lie where nothing else is met or overwritten."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from c3po_ray.worker_payload import WorkerPayload
from own_plugin import FILE
from study.configs import FIXED, parse_config, registry_of, told_study

from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.references.build import build_reference_set, labeled_questions
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker
from c3po_adaptive.study.executor import Piece

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from c3po_adaptive import hookimpl
from c3po_adaptive.optimizers import NoStep

@dataclass(frozen=True)
class Still(NoStep):
    '''Stays where it is.'''
    name: ClassVar[str] = "still"

@hookimpl
def register_optimizers():
    return [Still]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "driver").mkdir()
    monkeypatch.chdir(tmp_path / "driver")
    return tmp_path


@pytest.fixture
def raw(place):
    return told_study(place)


def told(raw, text):
    raw["arms"]["told"]["answerer"]["text"] = text
    return ComparisonWorker.here(parse_config(raw), registry_of(FILE))


def test_what_is_gone_where_the_worker_sits_is_there_for_it(place, raw):
    plugin = place / "still.py"
    plugin.write_text(PLUGIN)
    registry = registry_of(FILE, plugin)
    raw["arms"]["still"] = {"optimizer": "still", "selector": FIXED}
    worker = ComparisonWorker.here(parse_config(raw), registry)
    parcel = WorkerPayload.of(worker)
    for name in ("still.py", "facts.txt", "test.jsonl", "references.jsonl"):
        (place / name).unlink()
    there = parcel.unpack()
    assert there.registry.names("optimizer") == registry.names("optimizer")
    assert there.data.keys() == worker.data.keys()
    for arm in ("still", "told"):
        assert len(there.rows(Piece("toy", arm, 0))) == 3


def test_what_a_plugin_imports_from_beside_it_goes_with_it(place, raw):
    plugin = place / "still.py"
    plugin.write_text(
        "from .part import Still, hookimpl\n\n@hookimpl\ndef register_optimizers():\n    return [Still]\n"
    )
    (place / "part.py").write_text(PLUGIN.partition("@hookimpl")[0])
    registry = registry_of(FILE, plugin)
    raw["arms"]["still"] = {"optimizer": "still", "selector": FIXED}
    parcel = WorkerPayload.of(ComparisonWorker.here(parse_config(raw), registry))
    for name in ("still.py", "part.py"):
        (place / name).unlink()
    there = parcel.unpack()
    assert there.registry.files == registry.files
    assert len(there.rows(Piece("toy", "still", 0))) == 3


def test_a_models_folder_goes_by_its_whole_path(place, raw, monkeypatch):
    monkeypatch.chdir(place)
    raw["model"] = Path(raw["model"]).name
    parcel = WorkerPayload.of(ComparisonWorker.here(parse_config(raw), registry_of(FILE)))
    monkeypatch.chdir(place / "driver")
    assert parcel.unpack().model.layers


def test_what_is_no_study_on_questions_is_not_sent():
    with pytest.raises(SettingError, match="a study on questions to send, got function; run it here"):
        WorkerPayload.of(lambda piece: ())


@pytest.mark.parametrize("text", ["{place}/facts.txt", "../facts.txt"])
def test_another_file_of_that_path_is_neither_read_nor_written(place, raw, text):
    """Whatever stands there on the worker's machine; the results go by the path that the configuration has."""
    worker = told(raw, text.format(place=place))
    worker.inputs = worker._inputs
    before, here = worker.inputs, worker.rows(Piece("toy", "told", 0))
    parcel = WorkerPayload.of(worker)
    (place / "facts.txt").write_text("Iron floats.\n\nWater burns.\n")
    there = parcel.unpack()
    rows = there(Piece("toy", "told", 0))
    assert there._inputs == before
    assert [row.scores for row in rows] == [row.scores for row in here]
    assert [row.setting for row in rows] == [row.setting for row in here]
    assert (place / "facts.txt").read_text().startswith("Iron")
    assert {path.name for path in place.iterdir()} >= {"driver", "cache"}
    assert not list((place / "driver").iterdir())


def test_a_built_set_is_the_one_that_was_sent(place, raw):
    model, embedder = load_moe_model(raw["model"]), default_embedder()
    built = build_reference_set(model, labeled_questions("../references.jsonl"), embedder).save(place / "set")
    raw["datasets"][0]["references"] = [str(built)]
    parcel = WorkerPayload.of(ComparisonWorker.here(parse_config(raw), registry_of(FILE)))
    for file in built.iterdir():
        file.write_bytes(b"stale")
    sent = parcel.unpack().reference_set("toy")
    assert len(sent) == 20
    assert (place / "cache") in sent.folder.parents


def test_workers_of_one_machine_may_unpack_at_once(place, raw, monkeypatch):
    """Each finds whole files, though another is writing the same ones."""
    parcel = WorkerPayload.of(told(raw, "../facts.txt"))
    with ThreadPoolExecutor(8) as pool:
        unpacked = list(pool.map(lambda _: parcel.unpack(), range(16)))
    (path,) = {worker.places["../facts.txt"] for worker in unpacked}
    assert Path(path).read_text() == "Wood floats.\n\nStones sink.\n"
    assert [p.name for p in Path(path).parent.iterdir()] == ["facts.txt"]


def test_what_was_written_in_part_is_not_taken(place, raw, monkeypatch):
    parcel = WorkerPayload.of(told(raw, "../facts.txt"))
    write = Path.write_bytes

    def cut_off(path, content):
        if b"Wood" not in content:
            return write(path, content)
        write(path, content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", cut_off)
    with pytest.raises(DataError, match=r"Could not write .*facts\.txt: .*No space.*free the disk of this worker's"):
        parcel.unpack()
    monkeypatch.setattr(Path, "write_bytes", write)
    assert Path(parcel.unpack().places["../facts.txt"]).read_text().startswith("Wood floats")
