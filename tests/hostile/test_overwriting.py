"""``--overwrite`` and ``--out``: a run makes room for another, and nothing else does, wherever it is interrupted."""

import inspect
import json
import os
import re
from pathlib import Path

import pytest
from hostile.doors import command, is_refused, on_disk, passed, question, untouched
from study.configs import registry

from c3po_adaptive.errors import DataError
from c3po_adaptive.records.base import Record
from c3po_adaptive.records.jsonl import Records
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.lock import held
from c3po_adaptive.storage.run_folder import (
    CONFIG,
    REPLACING,
    check_folder,
    claim,
    claimed_config,
    files_of,
    is_run,
)
from c3po_adaptive.study import on_questions
from c3po_adaptive.study.kinds import kinds

PLUGINS = Path(__file__).parents[2] / "plugins"
OLD, NEW = {"a": 1}, {"a": 2}
KEPT = ("records.jsonl", "summary.json", "report.html")


class Killed(BaseException):
    """No code runs in a process that was killed: every later step raises it as well."""


def run_in(folder, config=OLD):
    """A run's folder, with notes of the user's beside it."""
    with held(folder):
        claim(folder, config)
        Records(folder, Record).append(Record(arm="base", dataset="d", id="q", seed=0))
        for name in KEPT[1:]:
            write_text(folder / name, f"{name} of {config}")
    (folder / "notes.txt").write_text("mine")
    return folder


def overwritten(folder, config=NEW, records=Records):
    """What ``--overwrite`` does before the first answer."""
    token = REPLACING.set(True)
    try:
        check_folder(folder, config, {})
        with held(folder):
            claim(folder, config)
            records(folder, Record)
    finally:
        REPLACING.reset(token)


def killed_at(patch, step):
    """Kill what follows before its step of that number that changes the disk; what it gets to is counted."""
    count = []

    def stopping(name):
        original = getattr(os, name)

        def stepped(*args, **kwargs):
            if len(count) >= step:
                raise Killed
            count.append(name)
            return original(*args, **kwargs)

        patch.setattr(os, name, stepped)

    for name in ("replace", "rename", "unlink", "rmdir", "mkdir"):
        stopping(name)
    return count


def is_refused_at_its_next_start(folder):
    """Whether the old run cannot go on, as the new one has claimed the folder."""

    def start():
        check_folder(folder, OLD, {})
        with held(folder):
            claim(folder, OLD)

    error = passed(start)
    return error is not None and "to hold the run" in str(error)


def run_of(folder):
    return {
        name: content
        for name in (CONFIG, *files_of(OLD))
        if (content := on_disk(folder).get(folder / name)) is not None
    }


@pytest.mark.parametrize("config", [NEW, OLD], ids=["another", "the same again"])
def test_killed_at_any_step_the_old_run_comes_back_or_the_new_one_stands(tmp_path, config, monkeypatch):
    """By what the next start finds: that of the old configuration, or another ``--overwrite``."""
    outcomes = []
    for step in range(100):
        folder = run_in(tmp_path / str(step))
        (folder / ".replaced").mkdir()
        (folder / ".replaced" / "records.jsonl").write_text("mine")
        (folder / f".replaced-{'0' * 16}").mkdir()
        (folder / f".replaced-{'0' * 16}" / "summary.json").write_text("mine")
        before = run_of(folder)
        mine = {p: c for p, c in on_disk(folder).items() if p.name == "notes.txt" or ".replaced" in str(p)}
        with monkeypatch.context() as patch:
            done = killed_at(patch, step)
            try:
                overwritten(folder, config)
                ended = True
            except Killed:
                ended = False
        if is_refused_at_its_next_start(folder):
            assert claimed_config(folder) == NEW
        after = run_of(folder)
        fresh = set(after) == {CONFIG}
        assert fresh or after == before, "the old run, whole, or the new one, which has no answer yet"
        assert {p: c for p, c in on_disk(folder).items() if p in mine} == mine
        outcomes.append("new" if fresh else "old")
        assert not [
            p
            for p in folder.glob(".replaced-*")
            if any(p.iterdir()) and p.suffix != ".writing" and "0" * 16 not in p.name
        ]
        if ended:
            break
    else:
        pytest.fail(f"it never ended: {done}")
    assert len(outcomes) > 12
    assert outcomes == sorted(outcomes, reverse=True), "once the new one stands, it does"
    assert {*outcomes} == {"old", "new"}


def test_nothing_is_moved_where_the_new_run_cannot_be_claimed(tmp_path, monkeypatch):
    folder = run_in(tmp_path / "run")
    before = run_of(folder)

    def full(path, text):
        if path.name == CONFIG:
            raise DataError("no space left")
        write_text(path, text)

    monkeypatch.setattr("c3po_adaptive.storage.run_folder.write_text", full)
    with pytest.raises(DataError, match="no space left"):
        overwritten(folder)
    assert run_of(folder) == before
    assert not list(folder.glob(".replaced-*"))


@pytest.mark.parametrize(
    "config",
    [
        '{"architectures": ["OlmoeForCausalLM"], "hidden_size": 8}',
        '{"hash": "x", "config": {}}',
        '{"hash": 3, "config": {}}',
        "[]",
        "{",
        "",
    ],
)
def test_what_is_no_run_is_not_overwritten(tmp_path, config):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_text("weights")
    assert not is_run(folder)
    with untouched(tmp_path):
        is_refused(lambda: overwritten(folder))
        is_refused(lambda: check_folder(folder, NEW, {}))
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_what_a_killed_run_and_a_waiting_shell_leave_is_no_obstacle(tmp_path):
    for folder in (tmp_path / "made by hand", tmp_path / "left"):
        folder.mkdir()
    (tmp_path / "left" / ".lock").write_text("")
    (tmp_path / "left" / ".owner").write_text("process 4711 on somewhere")
    (tmp_path / "left" / f".{'0' * 16}.writing").write_text("half")
    (tmp_path / "left" / "config.yaml").write_text("of the study")
    for folder in (tmp_path / "made by hand", tmp_path / "left", tmp_path / "new" / "run"):
        check_folder(folder, OLD, {})
        run_in(folder)
        check_folder(folder, OLD, {})
        assert claimed_config(folder) == OLD


PLACES = ("", "/", "home", "repository", "project", "file", "file/run", "dangling", "dangling/run", "loop")
PLACES += ("page", "model", "a\0b", "x" * 300)


@pytest.mark.parametrize("out", PLACES)
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_out_that_is_not_ours_is_refused_before_anything_is_loaded(tmp_path, monkeypatch, out, overwrite):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in ("home", "repository/.git", "project", "page", "model"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").write_text("[project]")
    (tmp_path / "page" / "report.html").write_text("mine")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "olmoe"}')
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "asked.jsonl").write_text(json.dumps(question("a")) + "\n")
    before = {*tmp_path.rglob("*")}
    monkeypatch.setattr("c3po_adaptive.study.worker.load_model", None)
    asked = ["--model", "nowhere", "--questions", "asked.jsonl", "--references", "asked.jsonl", "--arm", "base"]
    with untouched(tmp_path):
        if out:
            assert command("demo", *asked, "--out", out, *overwrite) == 1
        else:
            from typer.testing import CliRunner

            from c3po_adaptive.cli import app

            done = CliRunner().invoke(app, ["demo", *asked, "--out", out, *overwrite])
            assert done.exit_code == 2
            assert "expected a path, got an empty one" in done.stderr
    assert {*tmp_path.rglob("*")} == before
    with pytest.raises(DataError, match="got an empty name"):
        check_folder("", OLD, {})


def left_by_a_kill(folder, patch, at):
    """A run whose setting aside was killed there: before its claim was written, or when it was."""

    def killed(path, text):
        if path.name == CONFIG and REPLACING.get():
            if at == "after":
                write_text(path, text)
            raise Killed
        write_text(path, text)

    run_in(folder)
    with patch.context() as patched:
        patched.setattr("c3po_adaptive.storage.run_folder.write_text", killed)
        patched.setattr("c3po_adaptive.storage.overwriting.settle", lambda *args: None)
        with pytest.raises(Killed):
            overwritten(folder)
    (aside,) = (p for p in folder.glob(".replaced-*") if p.is_dir())
    return aside


@pytest.mark.parametrize("start", [lambda f: check_folder(f, OLD, {}), overwritten], ids=["plain", "--overwrite"])
@pytest.mark.parametrize("restored", ['{"model_type": "olmoe"}', '{"hash": "x", "config": {}}', "", None, "a link"])
def test_what_was_set_aside_stays_where_a_users_file_has_its_place(tmp_path, monkeypatch, start, restored):
    """Whatever is in the claim's place, but the claim that says that it replaces this very run."""
    folder = tmp_path / "run"
    aside = left_by_a_kill(folder, monkeypatch, "before")
    old = (aside / CONFIG).read_text()
    if restored == "a link":
        (tmp_path / "elsewhere.json").write_text(old)
        (folder / CONFIG).symlink_to(tmp_path / "elsewhere.json")
    else:
        (folder / CONFIG).write_text(old if restored is None else restored)
    with untouched(tmp_path), pytest.raises(DataError, match=r"\.replaced-.*nothing was touched: move .*config\.json"):
        start(folder)
    (folder / CONFIG).unlink()
    check_folder(folder, OLD, {})
    assert Records(folder, Record).done()
    assert not aside.exists()


def test_the_run_that_takes_its_place_deletes_it(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    aside = left_by_a_kill(folder, monkeypatch, "after")
    assert json.loads((folder / CONFIG).read_text())["made"]["replaces"] == aside.name
    check_folder(folder, NEW, {})
    assert not aside.exists()
    assert claimed_config(folder) == NEW
    assert {*run_of(folder)} == {CONFIG}


def test_a_set_aside_folder_that_a_user_works_in_stays(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    aside = left_by_a_kill(folder, monkeypatch, "after")
    (aside / "notes.txt").write_text("mine")
    (aside / "report.html").unlink()
    (aside / "report.html").mkdir()
    (aside / "report.html" / "work.txt").write_text("of years")
    with untouched(tmp_path), pytest.raises(DataError, match=r"report\.html, links or folders; move them away"):
        check_folder(folder, NEW, {})
    (aside / "report.html").rename(tmp_path / "mine")
    check_folder(folder, NEW, {})
    assert {p.name for p in aside.iterdir()} == {"notes.txt"}


FOLDERS = {name: Path(inspect.getfile(type(study))).parent for name, study in kinds(registry()).items()}
"""Of each kind's code; what is read here makes known what runs of plugins' kinds write, too."""
KINDS = (*FOLDERS, "audit")
SKELETON = Path(on_questions.__file__)


def test_every_kind_writes_files_of_its_kind_alone():
    """As its code has it: a new kind that writes others says so in its ``files``."""
    for kind, folder in {**FOLDERS, "audit": PLUGINS / "audit" / "c3po_audit"}.items():
        texts = [path.read_text() for path in (*folder.glob("*.py"), *([SKELETON] * (kind not in ("audit", "speed"))))]
        written = {name for text in texts for name in re.findall(r'write_text\((?:out|Path\(\w+\)) / "([\w.]+)"', text)}
        assert "summary.json" in written
        assert written <= {*files_of({"kind": kind})}, kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("then", KINDS)
def test_files_that_its_kind_never_writes_are_the_users(tmp_path, kind, then):
    folder, old, new = tmp_path / "run", {"kind": kind}, {"kind": then, "seed": 1}
    with held(folder):
        claim(folder, old)
    never = {name for each in KINDS for name in files_of({"kind": each})} - {*files_of(old)}
    for name in never:
        (folder / name).write_text("mine")
    with untouched(folder):
        check_folder(folder, old, {})
    kept = {folder / name: "mine" for name in never}
    overwrites = lambda: overwritten(folder, new, lambda *given: None)  # noqa: E731
    if met := sorted(never & {*files_of(new)}):
        with untouched(folder), pytest.raises(DataError, match=rf"{met[0]}.*does not write; nothing was touched"):
            overwrites()
    else:
        overwrites()
        assert claimed_config(folder) == new
    assert {path: path.read_text() for path in kept} == kept


@pytest.mark.parametrize("name", files_of(OLD))
def test_a_folder_of_such_a_name_is_neither_moved_nor_in_the_way_for_good(tmp_path, name):
    folder = run_in(tmp_path / "run")
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    (folder / name / "work.txt").write_text("of years")
    with untouched(folder):
        for start in (lambda: check_folder(folder, OLD, {}), lambda: overwritten(folder)):
            with pytest.raises(DataError, match=f"links or folders .{name}.*move them away"):
                start()
    assert not list(folder.glob(".replaced-*"))
    (folder / name).rename(tmp_path / "mine")
    overwritten(folder)
    assert (tmp_path / "mine" / "work.txt").read_text() == "of years"
