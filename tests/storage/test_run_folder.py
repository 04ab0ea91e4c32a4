"""A run folder survives interruption, refuses what is not its own, and makes room for another where told to."""

import json
import os
from pathlib import Path

import pytest
from hostile.doors import Killed, killed_at, on_disk, untouched

from c3po_adaptive.errors import DataError
from c3po_adaptive.storage.folders import out_folder
from c3po_adaptive.storage.identity import digest
from c3po_adaptive.storage.run_folder import (
    CONFIG,
    FILES,
    RECORDS,
    REPLACING,
    check_folder,
    claim,
    claimed_config,
    files_of,
)

OLD, NEW = {"a": 1}, {"a": 2}


def test_claim_and_resume(tmp_path):
    folder, config = tmp_path / "a" / "b", {"steps": 10, "layers": (1, 2)}
    assert claim(folder, config) == digest(config) == claim(folder, {"layers": [1, 2], "steps": 10})
    assert json.loads((folder / CONFIG).read_text()) == {
        "hash": digest(config),
        "made": {"model": None, "command": None},
        "config": {"steps": 10, "layers": [1, 2]},
    }


def test_another_run_is_refused_with_what_differs(tmp_path):
    claim(tmp_path, {"steps": 10, "seed": 0})
    for start in (lambda: claim(tmp_path, {"steps": 5}), lambda: check_folder(tmp_path, {"steps": 5}, {})):
        with pytest.raises(DataError, match=r"Expected .* got .*differ in seed, steps\).*--out"):
            start()


def test_plugins_that_differ_are_named_with_how(tmp_path):
    before, now = ({"kind": "a", "inputs": {"plugins": of}} for of in ({"a": "1", "b": "1"}, {"b": "2", "c": "1"}))
    claim(tmp_path, before)
    wanted = (
        r"differ in inputs\.plugins: a was there when it began, and is not now; b has another text than when it began; "
        r"c was not there when it began, and is now\).* plugins to resume it"
    )
    for start in (
        lambda: claim(tmp_path, now),
        lambda: check_folder(tmp_path, {"kind": "a"}, now["inputs"]["plugins"]),
    ):
        with pytest.raises(DataError, match=wanted):
            start()


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    # Simulated: tests may run as root, whom permissions do not stop.
    def refuse(*_, **__):
        raise PermissionError("read-only")

    claim(tmp_path / "begun", {})
    monkeypatch.setattr(os, "replace", refuse)
    for name in ("begun", "new"):
        with pytest.raises(DataError, match="read-only"):
            claim(tmp_path / name, {})


@pytest.mark.parametrize("text", [
    "", "{", "[]", "{}", '{"hash": "x", "config": 3}', '{"hash": 3, "config": {}}', '{"hash": "x", "config": {}}',
    '{"architectures": ["OlmoeForCausalLM"], "hidden_size": 8}',
])  # fmt: skip
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_run_is_refused(tmp_path, text, overwrite):
    (tmp_path / CONFIG).write_text(text)
    (tmp_path / "model.safetensors").write_text("weights")
    with untouched(tmp_path), pytest.raises(DataError, match=r"Expected|config\.json: expected"):
        overwritten(tmp_path) if overwrite else claim(tmp_path, NEW)


def run_in(folder, config=OLD):
    """A run's folder, with notes of the user's beside it."""
    claim(folder, config)
    for name in files_of(config):
        (folder / name).write_text(f"{name} of {config}")
    (folder / "notes.txt").write_text("mine")
    return folder


def overwritten(folder, config=NEW):
    """What ``--overwrite`` does before anything is loaded, and before the first answer."""
    token = REPLACING.set(True)
    try:
        check_folder(folder, config, {})
        claim(folder, config)
    finally:
        REPLACING.reset(token)


@pytest.mark.parametrize("config", [NEW, OLD], ids=["another", "the same again"])
def test_killed_at_any_step_what_lies_there_is_of_the_run_that_claims_it(tmp_path, config, monkeypatch):
    found = []
    for step in range(20):
        folder = run_in(tmp_path / str(step))
        with monkeypatch.context() as patch:
            killed_at(patch, step)
            try:
                overwritten(folder, config)
                ended = True
            except Killed:
                ended = False
        kept = [name for name in files_of(OLD) if (folder / name).exists()]
        assert (folder / "notes.txt").read_text() == "mine"
        assert all((folder / name).read_text() == f"{name} of {OLD}" for name in kept)
        if claimed_config(folder) == NEW:
            assert not kept
        assert kept == [] or RECORDS in kept, "answers go last"
        found.append(len(kept))
        if ended:
            break
    assert ended
    assert claimed_config(folder) == config
    assert found == sorted(found, reverse=True)
    assert {0, len(files_of(OLD))} <= {*found}


def test_nothing_is_deleted_where_the_new_run_cannot_be_claimed(tmp_path, monkeypatch):
    folder = run_in(tmp_path / "run")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with untouched(folder), pytest.raises(DataError, match="No space left"):
        overwritten(folder)
    assert {p.name for p in folder.iterdir()} == {CONFIG, "notes.txt", *files_of(OLD)}


@pytest.mark.parametrize(("kind", "then", "met"), [
    ("comparison", "speed", "rows.json"), ("speed", "comparison", "records.parquet"),
    ("audit", "comparison", "records.parquet"),
])  # fmt: skip
def test_files_that_its_kind_never_writes_are_the_users(tmp_path, monkeypatch, kind, then, met):
    monkeypatch.setitem(FILES, "speed", ("rows.json", "summary.json"))
    claim(tmp_path, {"kind": kind})
    (tmp_path / met).write_text("mine")
    with untouched(tmp_path):
        check_folder(tmp_path, {"kind": kind}, {})
        with pytest.raises(DataError, match=rf"{met}, which such a run does not write; nothing was touched"):
            overwritten(tmp_path, {"kind": then})
    overwritten(tmp_path, {"kind": kind, "seed": 1})
    assert (tmp_path / met).read_text() == "mine"


@pytest.mark.parametrize("name", files_of(OLD))
def test_a_folder_of_such_a_name_is_neither_deleted_nor_in_the_way_for_good(tmp_path, name):
    folder = run_in(tmp_path / "run")
    (folder / name).unlink()
    (folder / name).mkdir()
    (folder / name / "work.txt").write_text("of years")
    for start in (lambda: check_folder(folder, OLD, {}), lambda: overwritten(folder)):
        with untouched(folder), pytest.raises(DataError, match=f"links or folders .{name}.*move them away"):
            start()
    (folder / name).rename(tmp_path / "mine")
    overwritten(folder)


def test_what_a_killed_run_and_a_waiting_shell_leave_is_no_obstacle(tmp_path):
    for name in (".c3po.lock", ".c3po.owner", f".{'0' * 16}.writing", "config.yaml"):
        (tmp_path / name).write_text("left")
    for folder in (tmp_path, tmp_path / "new" / "run"):
        check_folder(folder, OLD, {})
        claim(folder, OLD)
        check_folder(folder, OLD, {})


PLACES = {
    "": "got an empty name", "/": "the root of the disk", "home": "your home", "repository": "a project",
    "project": "a project", "file": "the file .* is none", "file/run": "the file .* is none",
    "dangling": "a link to nothing", "dangling/run": "a link to nothing", "loop": "a link to nothing", "a\0b": "null",
    "x/\0/y": "null", "x" * 300: "name too long",
}  # fmt: skip


@pytest.mark.parametrize("check", [out_folder, lambda folder: check_folder(folder, OLD, {})], ids=["any", "a run's"])
@pytest.mark.parametrize("out", PLACES)
def test_where_nothing_of_ours_belongs(tmp_path, monkeypatch, out, check):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in ("home", "repository/.git", "project"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").write_text("[project]")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    before = on_disk(tmp_path)
    with pytest.raises(DataError, match=rf"(?i)Expected a folder .*{PLACES[out]}.*name another --out"):
        check(out)
    assert on_disk(tmp_path) == before


def test_answers_without_a_config_are_refused(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with untouched(tmp_path), pytest.raises(DataError, match=r"Expected an empty folder or a run .*report\.html alone"):
        claim(tmp_path, {})
