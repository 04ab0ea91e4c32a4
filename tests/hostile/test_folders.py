"""Whatever writes, and wherever it is told to: each file that is not its own is there afterwards, byte for byte.

Cases are drawn: what writes, the folder that it meets, files and links that lie there, and what happens on the way:
the process is killed between two steps, the disk is full, or read-only. A process that was killed runs no code: from
its last step on each that would change the disk raises, clean-up included.
"""

import builtins
import errno
import io
import os
import random
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from c3po_adaptive.cli.new_plugin import new_plugin
from c3po_adaptive.errors import C3POError
from c3po_adaptive.lm_eval import export
from c3po_adaptive.references import prefill_store
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.registry import new_registry
from c3po_adaptive.report.explanation import Explanation
from c3po_adaptive.routing.trace import Trace
from c3po_adaptive.routing.trace_file import write_trace
from c3po_adaptive.serving import export as vllm
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.lock import held
from c3po_adaptive.storage.pages import GENERATOR
from c3po_adaptive.storage.pathway_file import Origin
from c3po_adaptive.storage.run_folder import CONFIG, OURS, REPLACING, Records, check_folder, claim
from c3po_adaptive.study import board
from c3po_adaptive.study.comparison import beside
from c3po_adaptive.types import Pathway, Prompt, Question

CASES = 125  # of each writer

ORIGIN = Origin(model="ab", name="toy", dtype="float32", prompts=("cd",), versions={})
PATHWAY = Pathway(torch.ones(2, 4), torch.ones(2, 4), (0, 1), origin=ORIGIN)
TRACE = Trace(torch.arange(3), (0, 1), torch.arange(2).expand(3, 2, 2), None, 4)
SET = ReferenceSet(
    tuple(Question(f"q{i}", "Is it so?", ("yes", "no"), 0, "t") for i in range(3)),
    torch.ones(3, 4),
    torch.ones(3, 2, 4),
    ((-1.0, -2.0),) * 3,
    torch.ones(3, dtype=torch.bool),
    {"source": "s", "model": "ab", "format": "cloze", "embedder": {"name": "e", "revision": "r"}, "versions": {}},
)
REGISTRY = new_registry(installed=False)
ROW = {"arm": "base", "dataset": "d", "id": "q", "seed": 0}
PAGE = SimpleNamespace(html=lambda command: f"<!doctype html>{GENERATOR}")
MODEL = SimpleNamespace(
    encode=lambda question, format: Prompt(tuple(question.id.encode())),
    model=SimpleNamespace(dtype=torch.float32),
    tokenizer=SimpleNamespace(save_pretrained=lambda folder: (folder / "tokenizer.json").write_text("{}")),
)


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """What is written is of no interest here; each writer writes what its own check knows it by."""

    def weights(model, multiple_of):
        def save(folder):
            folder.mkdir()
            (folder / "config.json").write_text("{}")

        return SimpleNamespace(save_pretrained=save)

    monkeypatch.setattr(vllm, "with_zeros", weights)
    monkeypatch.setattr(board, "page", lambda summary, results: "a page")
    monkeypatch.setattr(board, "picture", lambda summary: "a picture")
    monkeypatch.setattr(
        beside, "side_by_side", lambda a, b: {"a": "A", "b": "B", "only_a": [], "only_b": [], "rows": []}
    )
    monkeypatch.setattr(beside, "whole_records", lambda folder: [])
    monkeypatch.setattr(beside, "claimed_config", lambda folder: {})
    monkeypatch.setattr(beside, "made_by", lambda folder: None)
    monkeypatch.setattr(beside, "_page", lambda found, made: "a page")
    monkeypatch.setattr(export, "_results", lambda *args: {"results": {}, "config": {"model": "c3po"}})
    monkeypatch.setattr(prefill_store, "fingerprint", lambda model: model.name)
    monkeypatch.setattr(ReferenceSet, "_card", lambda self, name, license: f"---\ntags:\n- c3po_adaptive\n---\n{name}")
    monkeypatch.setattr(Pathway, "_card", lambda self, name, license: f"---\ntags:\n- c3po_adaptive\n---\n{name}")


def run(out, config=None):
    """The frame of every study."""
    config = config or {"a": 1}
    check_folder(out, config, {})
    with held(out):
        claim(out, config)
        records = Records(out)
        if not records.done():
            records.append(ROW)
        for name in ("summary.json", "report.html", "rows.json", "ratios.svg", "records.parquet"):
            write_text(Path(out) / name, "ours")


def overwriting(out):
    token = REPLACING.set(True)
    try:
        run(out, {"a": 2})
    finally:
        REPLACING.reset(token)


def warmed(out, model="one"):
    """A store of states, each model's its own."""
    computed = lambda missing: ((i, {"states": torch.ones(3)}) for i in missing)  # noqa: E731
    named = SimpleNamespace(name=model, **vars(MODEL))
    prefill_store.build_store(SET, named, out, compute=computed)


def exported(out):
    config = SimpleNamespace(model="toy")
    when = SimpleNamespace(isoformat=lambda: "2030-01-01T00:00:00", timestamp=lambda: 0.0)
    export._write(Path(out), config, "arm", {"d": [{"doc": 1}]}, [ROW], when)


STORE = ("card.json",)
WRITERS = {
    "run": (run, (CONFIG, *OURS)),
    "run --overwrite": (overwriting, (CONFIG, *OURS)),
    "set": (SET.save, ReferenceSet.files),
    "set with its card": (SET.save_pretrained, (*ReferenceSet.files, "README.md")),
    "pathway in a folder": (PATHWAY.save_pretrained, (*Pathway.files, "README.md")),
    "pathway": (lambda out: PATHWAY.save(Path(out) / "page.html"), ("page.html",)),
    "pathway at the path": (PATHWAY.save, ()),
    "trace": (lambda out: write_trace(TRACE, Path(out) / "page.html"), ("page.html",)),
    "trace at the path": (lambda out: write_trace(TRACE, out), ()),
    "page": (lambda out: Explanation.save(PAGE, Path(out) / "page.html"), ("page.html",)),
    "board": (
        lambda out: list(
            board.write_board(
                SimpleNamespace(results=str(out), pages=()), Path(), {"matrix": [], "sources": [], "title": "t"}
            )
        ),
        (board.SUMMARY, board.PAGE, board.PICTURE),
    ),
    "report of two": (lambda out: beside.beside(Path("A"), Path("B"), Path(out)), ("summary.json", "report.html")),
    "export": (exported, ()),
    "plugin": (lambda out: new_plugin("my-plugin", "kernel", Path(out), REGISTRY), ()),
    "checkpoint": (lambda out: vllm.export_for_vllm(MODEL, out), ()),
    "states": (warmed, STORE),
    "states of another model": (lambda out: warmed(out, "another"), STORE),
}
"""Each with the names of its files, where it may find its own from before."""
NAMES = sorted({name for _, names in WRITERS.values() for name in names})
NAMES += [".lock", ".owner", ".replaced", f".replaced-{'0' * 16}", "toy__arm", "tokenizer.json", "notes.txt"]
CLAIMED = {".lock", ".owner"}
KINDS = (
    *("absent", "deep", "empty", "own", "own", "own", "own, left half-way", "another run", "model", "repository"),
    *("home", "link", "link to own", "dangling", "below dangling", "loop", "file", "below a file", "store"),
    *("..", ".", "", "NUL", "long", "replaced"),
)


class Killed(BaseException):
    """No code runs in a process that was killed: every later step raises it as well."""


CHANGING = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "truncate", "symlink", "link")
MAKING = {"mkdir", "truncate", "symlink", "link", "open"}


@contextmanager
def meeting(fault, at):
    """From its step of that number that changes the disk: it is killed, or the disk is full, or read-only."""
    steps = 0

    def met(name):
        nonlocal steps
        steps += 1
        if fault is None or steps <= at:
            return
        if fault == "killed":
            raise Killed
        if fault == "read-only" or name in MAKING:
            number = errno.EROFS if fault == "read-only" else errno.ENOSPC
            raise OSError(number, os.strerror(number))

    def stepped(name, original):
        def step(*args, **kwargs):
            met(name)
            return original(*args, **kwargs)

        return step

    def opened(original):
        def step(file, mode="r", *args, **kwargs):
            if not isinstance(file, int) and {*mode} & {*"wax+"}:
                met("open")
            return original(file, mode, *args, **kwargs)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGING:
            patch.setattr(os, name, stepped(name, getattr(os, name)))
        patch.setattr(io, "open", opened(io.open))
        patch.setattr(builtins, "open", opened(builtins.open))
        yield


def on_disk(root):
    """Every entry below a folder, links not followed: a file's bytes, a link's target, nothing of a folder."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = os.path.join(folder, name)
            mode = os.lstat(path)
            if os.path.islink(path):
                found[path] = (os.readlink(path),)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[path] = file.read()
            else:
                found[path] = mode.st_ino and None
    return found


def user_file(path, draw):
    """A file of the user's, or a link or a folder of that name."""
    if os.path.lexists(path):
        return
    kind = draw.choice(["file"] * 5 + ["link", "dangling", "folder"])
    if kind == "folder":
        path.mkdir()
        (path / "work.txt").write_text("of years")
    elif kind == "link":
        path.symlink_to(Path.cwd().parent / "home" / "thesis.tex")
    elif kind == "dangling":
        path.symlink_to("nowhere")
    else:
        path.write_text(draw.choice(["mine", "", "{}", '{"rows": []}', '{"hash": "x", "config": {}}', "<html></html>"]))


def place(kind, writer, draw):
    """A folder of that kind, as it is named on the command line, and where its writer has been before."""
    write, _ = WRITERS[writer]
    root = Path.cwd()
    folder = root / "given"
    own = False
    if kind in ("own", "link to own", "own, left half-way"):
        try:
            run(folder) if writer.startswith("run") else write(folder)
        except C3POError:  # it takes a folder that is there
            folder.mkdir()
            write(folder)
        own = True
        if kind == "own, left half-way":
            with meeting("killed", draw.randrange(1, 30)), suppress(Killed, C3POError):
                write(folder)
    elif kind == "another run":
        run(folder, {"a": 3})
    elif kind == "store":
        warmed(folder)
    elif kind not in ("absent", "deep", "dangling", "below dangling", "loop", "file", "below a file"):
        folder.mkdir()
    if kind == "model":
        (folder / "config.json").write_text('{"model_type": "olmoe"}')
        (folder / "model.safetensors").write_text("weights")
    elif kind == "repository":
        (folder / ".git").mkdir()
        (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")
        (folder / "README.md").write_text("# Mine")
    elif kind == "replaced":
        (folder / ".replaced").mkdir()
        (folder / ".replaced" / "records.jsonl").write_text("mine")
    elif kind == "dangling" or kind == "below dangling":
        folder.symlink_to("nowhere")
    elif kind == "loop":
        folder.symlink_to("given")
    elif kind in ("file", "below a file"):
        folder.write_text("mine")
    (root / "link").symlink_to("given")
    named = {
        "deep": "a/b/given", "link": "link", "link to own": "link", "below dangling": "given/run", "..": "..", ".": ".",
        "below a file": "given/run", "": "", "NUL": "a\0b", "long": "x" * 300, "home": os.environ["HOME"],
    }  # fmt: skip
    return named.get(kind, "given"), own


def case(writer, seed):
    """One drawn case; what went wrong, if anything did."""
    draw = random.Random(f"{writer} {seed}")
    kind = draw.choice(KINDS)
    named, own = place(kind, writer, draw)
    where = Path("nowhere" if kind in ("NUL", "long") else os.path.realpath(named))
    may = own or (kind == "another run" and writer == "run --overwrite") or (kind == "store" and "states" in writer)
    ours = {p for p in map(Path, on_disk(where)) if may} if where.is_dir() else set()
    if may and own and writer.startswith(("plugin", "checkpoint", "export")):
        ours = ours if writer == "export" else set()  # what is there is never written again
    taken = {*WRITERS[writer][1], *CLAIMED} if may else set()
    if where.is_dir():
        for name in draw.sample(NAMES, draw.choice([0, 0, 1, 2, 4])):
            if name not in taken:  # in a folder that is ours, a file of our names is ours
                user_file(where / name, draw)
        for folder in ("warm", "index"):
            if may and "set" in writer:
                (where / folder).mkdir(exist_ok=True)
                (where / folder / "states.safetensors").write_text("computed for hours")
    elif may and where.is_file():
        ours |= {where}
    before = on_disk(Path.cwd().parent)
    fault, at = draw.choice([None, "killed", "killed", "killed", "full", "read-only"]), draw.randrange(25)
    said = None
    with meeting(fault, at):
        try:
            WRITERS[writer][0](named)
        except (C3POError, Killed) as error:
            said = error
    after = on_disk(Path.cwd().parent)
    mine = {path: content for path, content in before.items() if Path(path) not in ours}
    changed = [path for path, content in mine.items() if path not in after or after[path] != content]
    return kind, fault, said, changed


@contextmanager
def home_of_a_user(monkeypatch):
    """A folder to work in, below one with a home and others' work beside it."""
    with tempfile.TemporaryDirectory() as root, monkeypatch.context() as patch:
        for name in ("home", "work"):
            (Path(root) / name).mkdir()
        (Path(root) / "home" / "thesis.tex").write_text("of years")
        (Path(root) / "beside.txt").write_text("mine")
        (Path(root) / "work" / "data.csv").write_text("mine")
        patch.setenv("HOME", str(Path(root) / "home"))
        patch.setenv("C3PO_CACHE", str(Path(root) / "cache"))
        patch.chdir(Path(root) / "work")
        yield


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_not_ours_stays(writer, monkeypatch):
    met, done = set(), 0
    for seed in range(CASES):
        with home_of_a_user(monkeypatch):
            kind, fault, said, changed = case(writer, seed)
        assert not changed, f"case {seed} ({kind}, {fault}, {said}) altered or deleted {changed}"
        met.add((kind, fault))
        done += said is None
    assert done >= 3, "some are written"
    assert len(met) > 40, "they differ"


def test_there_are_two_thousand_cases():
    assert CASES * len(WRITERS) >= 2000
    print(f"{CASES * len(WRITERS)} cases over folders")
