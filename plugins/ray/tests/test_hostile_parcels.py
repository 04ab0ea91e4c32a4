"""What workers elsewhere are sent: what is named and nothing else, in a folder that no name leads out of."""

from dataclasses import replace
from pathlib import Path

import pytest
from c3po_ray.worker_payload import WorkerPayload
from hostile.doors import untouched
from own_plugin import FILE
from study.configs import parse_config, registry_of, told_study

from c3po_adaptive.errors import DataError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.references.build import build_reference_set, labeled_questions
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker

FORGED = ["../x", "a/../../x", "/tmp/c3po-x", "", ".", "..", "a\0b", "C:x", "C:\\x", "..\\x", "a/b", "a\\b", "x/"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def worker(place):
    """One that reads a built set and a file of facts."""
    raw = told_study(place)
    model = load_moe_model(raw["model"])
    labeled = labeled_questions(raw["datasets"][0]["references"][0])
    raw["datasets"][0]["references"] = [
        str(build_reference_set(model, labeled, default_embedder()).save(place / "set"))
    ]
    return ComparisonWorker.here(parse_config(raw), registry_of(FILE))


def placed(place, worker):
    """WorkerPayload, and the paths of the set and of the facts where they were unpacked."""
    parcel = WorkerPayload.of(worker)
    places = parcel.unpack().places
    return parcel, Path(places[str(place / "set")]), Path(places[str(place / "facts.txt")])


def without_plugins(parcel, files):
    """With these files alone."""
    return replace(parcel, worker=replace(parcel.worker, plugins=()), files=files)


def test_only_the_files_of_a_set_are_sent(place, worker):
    (place / "secret").write_text("mine")
    for name in (".env", ".netrc", "notes.txt", "README.md", "card.json.bak"):
        (place / "set" / name).write_text("mine")
    (place / "set" / "link.txt").symlink_to(place / "secret")
    (place / "set" / "learned").mkdir()
    (place / "set" / "learned" / "x.safetensors").write_text("mine")
    parcel, there, _ = placed(place, worker)
    assert set(parcel.files[str(place / "set")]) == set(ReferenceSet.files)
    assert {path.name for path in there.iterdir()} == set(ReferenceSet.files)
    assert not any(b"mine" in held for files in parcel.files.values() for held in files.values())


@pytest.mark.parametrize("content", [b"", b"altered", b"another of any length"])
def test_a_file_that_lies_there_with_other_content_is_written_again(place, worker, content):
    parcel, there, facts = placed(place, worker)
    expected = {path: path.read_bytes() for path in (facts, *there.iterdir())}
    for path in expected:
        path.write_bytes(content)
    again = parcel.unpack()
    assert {path: path.read_bytes() for path in expected} == expected
    assert len(again.reference_set("toy")) == 20


def test_a_link_that_lies_there_is_refused_and_its_target_left_alone(place, worker):
    parcel, _, facts = placed(place, worker)
    for content in ("the user's own", facts.read_text()):
        (place / "mine.txt").write_text(content)
        facts.unlink()
        facts.symlink_to(place / "mine.txt")
        with untouched(place / "set"), pytest.raises(DataError, match="a link stands there"):
            parcel.unpack()
        assert (place / "mine.txt").read_text() == content
        assert facts.is_symlink()


def test_a_folder_in_a_files_place_is_refused(place, worker):
    parcel, _, facts = placed(place, worker)
    facts.unlink()
    facts.mkdir()
    (facts / "mine.txt").write_text("mine")
    with untouched(facts), pytest.raises(DataError, match=r"Could not write .*facts\.txt"):
        parcel.unpack()


@pytest.mark.parametrize("name", FORGED, ids=repr)
@pytest.mark.parametrize("beside", [{}, {"card.json": b"{}"}], ids=["alone", "in a set"])
def test_names_that_lead_elsewhere_are_refused_before_anything_is_written(place, worker, name, beside):
    parcel = WorkerPayload.of(worker)
    forged = replace(parcel, files=dict(parcel.files) | {str(place / "facts.txt"): beside | {name: b"forged"}})
    only = without_plugins(forged, {str(place / "facts.txt"): forged.files[str(place / "facts.txt")]})
    with untouched(place), pytest.raises(DataError, match="Expected a file's name for a worker's folder, got"):
        only.unpack()
    assert not [path for path in place.rglob("*") if path.is_file() and path.read_bytes() == b"forged"]
    assert not Path("/tmp/c3po-x").exists()


def test_a_name_that_is_too_long_for_the_disk(place, worker):
    parcel = WorkerPayload.of(worker)
    files = {str(place / "facts.txt"): {"x" * 300: b"long"}}
    with pytest.raises(DataError, match="Could not write"):
        without_plugins(parcel, files).unpack()


def test_a_file_that_is_gone_is_named(place, worker):
    (place / "facts.txt").unlink()
    with pytest.raises(DataError, match=r"Expected to read .*facts\.txt for a worker elsewhere, got: No such file"):
        WorkerPayload.of(worker)


def test_a_set_of_which_a_file_is_altered_is_not_sent(place, worker):
    path = place / "set" / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"tensors\.safetensors is missing, cut short or altered"):
        WorkerPayload.of(worker)


def test_a_set_whose_folder_is_called_like_one_of_its_files(place, worker):
    named = (place / "set").rename(place / "card.json")
    config = worker.config.model_dump(mode="json")
    config["datasets"][0]["references"] = [str(named)]
    unpacked = WorkerPayload.of(ComparisonWorker.here(parse_config(config), registry_of(FILE))).unpack()
    assert len(unpacked.reference_set("toy")) == 20
