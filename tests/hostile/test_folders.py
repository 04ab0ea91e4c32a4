"""Whatever writes, and wherever it is told to: each file that is not its own is there afterwards, byte for byte.

Cases are drawn: what writes, the folder that it meets, files and links that lie there, and what happens on the way:
the process is killed between two steps, the disk is full, or read-only; then the user adds files, or puts his own in
the place of ours, and it is started again. A process that was killed runs no code: from its last step on each that
would change the disk raises, clean-up included.
"""

import builtins
import errno
import io
import os
import random
import stat
import tempfile
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hostile.doors import Killed
from study.configs import registry

from c3po_adaptive.errors import C3POError
from c3po_adaptive.records.base import Record
from c3po_adaptive.records.jsonl import Records
from c3po_adaptive.records.parquet import PARQUET, write_parquet
from c3po_adaptive.references import build, learned, prefill_store
from c3po_adaptive.references.reference_set import INDEX, ReferenceSet
from c3po_adaptive.report.explanation import Explanation
from c3po_adaptive.routing.trace import Trace
from c3po_adaptive.routing.trace_file import write_trace
from c3po_adaptive.storage.checksummed import write_checksummed
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.folders import check_new
from c3po_adaptive.storage.kept import NAMED_TENSORS, TensorStore, kept
from c3po_adaptive.storage.lock import held
from c3po_adaptive.storage.pathway_file import Origin
from c3po_adaptive.storage.run_folder import (
    CONFIG,
    RECORDS,
    REPLACING,
    check_folder,
    claim,
    claimed_config,
    files_of,
    is_run,
)
from c3po_adaptive.study.kinds import kinds
from c3po_adaptive.types import Pathway, Prompt, Question

CASES = 40  # of each writer; each is two starts

ORIGIN = Origin(model="ab", name="toy", dtype="float32", prompts=("cd",), versions={})
PATHWAY = Pathway(torch.ones(2, 4), torch.ones(2, 4), (0, 1), origin=ORIGIN)
TRACE = Trace(torch.arange(3), (0, 1), torch.arange(2).expand(3, 2, 2), None, 4)
SET = ReferenceSet(
    tuple(Question(f"q{i}", "Is it so?", ("yes", "no"), 0, "t") for i in range(3)),
    torch.ones(3, 4),
    torch.ones(3, 2, 4),
    torch.ones(3, 2, 4),
    ((-1.0, -2.0),) * 3,
    torch.ones(3, dtype=torch.bool),
    {"source": "s", "model": "ab", "format": "cloze", "embedder": {"name": "e", "revision": "r"}, "versions": {}},
)
ROW = {"arm": "base", "dataset": "d", "id": "q", "seed": 0}
PAGE = SimpleNamespace(html=lambda command: "<!doctype html>")
MODEL = SimpleNamespace(
    name="toy",
    snapshot=None,
    layers=(0, 1),
    encode=lambda question, format: Prompt(tuple(question.id.encode())),
    model=SimpleNamespace(
        dtype=torch.float32,
        config=None,
        parameters=lambda: iter(()),
        buffers=lambda: iter(()),
        named_modules=lambda: iter(()),
        save_pretrained=lambda folder: (folder / "config.json").write_text('{"model_type": "olmoe"}'),
    ),
    tokenizer=SimpleNamespace(save_pretrained=lambda folder: (folder / "tokenizer.json").write_text("{}")),
    processor=None,
)


def put_toys(monkeypatch):
    """What is written is of no interest here; each writer writes what its own check knows it by."""
    monkeypatch.setattr(build, "fingerprint", lambda model: model.name)
    monkeypatch.setattr(build, "settings_identity", lambda model: model.name)
    for name in ("fingerprint", "numbers_of"):
        monkeypatch.setattr(prefill_store, name, lambda model: model.name)


def run(out, kind="comparison", a=1):
    """The frame of every study, which writes the files of its kind."""
    config = {"kind": kind, "a": a}
    check_folder(out, config, {})
    with held(out):
        claim(out, config)
        for name in files_of(config):
            if name == RECORDS:
                records = Records(out, Record)
                if not records.done():
                    records.append(Record(**ROW))
            elif name == PARQUET:
                write_parquet([], Path(out) / name)
            else:
                write_text(Path(out) / name, "ours")


def overwriting(out, kind="comparison"):
    token = REPLACING.set(True)
    try:
        run(out, kind, 2)
    finally:
        REPLACING.reset(token)


def set_built(out):
    """What ``c3po refset build`` does."""
    out = Path(out)
    check_new(out, "folder for the reference set")
    parts = out.with_name(f".{out.name}.parts")
    shard = {name: getattr(SET, name) for name in ("embeddings", "pathways", "routers", "correct")}
    shard |= {"scores": torch.ones(6)}
    embedder = SimpleNamespace(name="e", revision="r")
    built = build.build_reference_set(
        MODEL, SET.questions, embedder, scratch=parts, compute=lambda missing: ((i, shard) for i in missing)
    )
    built.save(out)
    build.forget_shards(built, parts)
    with suppress(OSError):
        parts.rmdir()


def kept_beside(out):
    """What is learned from a set, its artifacts and its index."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is computed again next time
        kept(Path(out) / learned.LEARNED, "of", lambda: {"w": torch.ones(2)}, NAMED_TENSORS)
        store = TensorStore(Path(out) / "artifacts", "owner")
        store.add([b"key"], torch.ones(1, 2))
        store.write()
    with suppress(OSError):
        write_checksummed(Path(out) / INDEX, "of", ".faiss", lambda path: path.write_bytes(b"index"))


def warmed(out, model="one"):
    """A store of states, each model's its own."""
    computed = lambda missing: ((i, {"states": torch.ones(3)}) for i in missing)  # noqa: E731
    named = SimpleNamespace(**vars(MODEL) | {"name": model})
    prefill_store.build_store(SET, named, out, compute=computed)


kinds(registry())  # so that what runs of speed write is known
STUDIES = ("comparison", "speed", "audit")
"""Those of any other kind write what an audit does."""
WRITERS = {
    **{f"run of {kind}": (partial(run, kind=kind), ()) for kind in STUDIES},
    **{f"run of {kind} --overwrite": (partial(overwriting, kind=kind), ()) for kind in STUDIES},
    "set": (SET.save, ReferenceSet.files),
    "pathway": (lambda out: PATHWAY.save(Path(out) / "page.html"), ("page.html",)),
    "pathway at the path": (PATHWAY.save, ()),
    "trace": (lambda out: write_trace(TRACE, Path(out) / "page.html"), ("page.html",)),
    "trace at the path": (lambda out: write_trace(TRACE, out), ()),
    "page": (lambda out: Explanation.save(PAGE, Path(out) / "page.html"), ("page.html",)),
    "refset build": (set_built, ()),
    "kept beside a set": (kept_beside, ()),
    "states": (warmed, ()),
    "states of another model": (lambda out: warmed(out, "another"), ()),
}
"""Each with the names of its files, where it may find its own from before; those of a run, its claim tells."""
NEW = ("refset build",)
"""What these find is not written again."""
NAMES = sorted({name for _, names in WRITERS.values() for name in names} | {CONFIG, "README.md"})
NAMES += sorted({name for kind in STUDIES for name in files_of({"kind": kind})} - {*NAMES})
NAMES += [".lock", "toy__arm", "tokenizer.json", "notes.txt"]
NAMES += ["learned", "artifacts", "index", "warm", "sent", f"tensors.{'0' * 15}.safetensors"]
KINDS = (
    *("absent", "absent", "absent", "deep", "deep", "empty", "own", "own", "own", "own, left half-way", "another run"),
    *("model", "repository", "home", "link", "link to own", "file", "store"),
)


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


def user_file(path, draw, kinds=("file", "file", "file", "file", "file", "link", "dangling", "folder")):
    """A file of the user's, or a link or a folder of that name."""
    kind = draw.choice(kinds)
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
    """A folder of that kind, as it is named on the command line, and the files that are its writer's own."""
    write, _ = WRITERS[writer]
    root = Path.cwd()
    folder = root / "given"
    users = {*on_disk(root.parent)}
    own = kind in ("own", "link to own", "own, left half-way")
    if own:
        try:
            (partial(run, kind=draw.choice(STUDIES)) if "--overwrite" in writer else write)("given")
        except C3POError:  # it takes a folder that is there
            folder.mkdir()
            write("given")
        if kind == "own, left half-way":
            with meeting("killed", draw.randrange(1, 30)), suppress(Killed, C3POError):
                write("given")
    elif kind == "another run":
        run(folder, draw.choice(STUDIES), 3)
    elif kind == "store":
        warmed(folder)
    elif kind not in ("absent", "deep", "file"):
        folder.mkdir()
    may = own or (kind == "another run" and "--overwrite" in writer) or (kind == "store" and "states" in writer)
    ours = {*on_disk(root.parent)} - users if may and writer not in NEW else set()
    if kind == "model":
        (folder / "config.json").write_text('{"model_type": "olmoe"}')
        (folder / "model.safetensors").write_text("weights")
    elif kind == "repository":
        (folder / ".git").mkdir()
        (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")
        (folder / "README.md").write_text("# Mine")
    elif kind == "file":
        folder.write_text("mine")
    (root / "link").symlink_to("given")
    named = {"deep": "a/b/given", "link": "link", "link to own": "link", "home": os.environ["HOME"]}
    return named.get(kind, "given"), ours


def taken(where, writer, ours):
    """Names in a folder that are its writer's, of files that are there or not: no file of the user's has them."""
    if writer.startswith("run"):
        return {CONFIG, *files_of(claimed_config(where))} if is_run(where) else set()
    return {*WRITERS[writer][1]} if any(Path(path).is_relative_to(where) for path in ours) else set()


def users_work(where, writer, ours, draw):
    """What the user does there before a start: files of his beside ours, links and folders in their place."""
    names = taken(where, writer, ours)
    for name in draw.sample(NAMES, draw.choice([0, 0, 1, 2, 4])):
        path = where / name
        if name in names and draw.random() < 0.3:
            path.unlink(missing_ok=True) if not path.is_dir() or path.is_symlink() else None
            ours.discard(str(path))
            if not os.path.lexists(path):
                user_file(path, draw, ("link", "dangling", "folder", *(["file"] if name == CONFIG else [])))
        elif name not in names and not os.path.lexists(path):
            user_file(path, draw)
    for folder in (where / name for name in ("warm", "index", "learned")):
        if "set" in writer:
            with suppress(FileExistsError, FileNotFoundError):
                folder.mkdir(exist_ok=True)
                (folder / "of mine.safetensors").write_text("computed for hours")


def seen(root):
    """What is on the disk, with modes, which are the user's, too."""
    return {path: (content, stat.S_IMODE(os.lstat(path).st_mode)) for path, content in on_disk(root).items()}


def case(writer, seed):
    """One drawn case, of two starts; what went wrong, if anything did."""
    draw = random.Random(f"{writer} {seed}")
    runs = "--overwrite" in writer and draw.random() < 0.6  # those that have something to lose
    kind = draw.choice(("own", "link to own", "another run") if runs else KINDS)
    named, ours = place(kind, writer, draw)
    where = Path(os.path.realpath(named))
    told = []
    for start in (1, 2):
        if where.is_dir():
            users_work(where, writer, ours, draw)
        elif start == 2 and not os.path.lexists(where) and where.parent.is_dir() and draw.random() < 0.3:
            user_file(where, draw)
        before = seen(Path.cwd().parent)
        fault, at = draw.choice([None, "killed", "killed", "killed", "full", "read-only"]), draw.randrange(25)
        said = None
        with meeting(fault, at):
            try:
                WRITERS[writer][0](named)
            except (C3POError, Killed) as error:
                said = error
        after = seen(Path.cwd().parent)
        told.append((kind, fault, said))
        changed = [p for p, held in before.items() if p not in ours and after.get(p) != held]
        if changed:
            return told, changed
        ours |= {*after} - {*before}
    return told, []


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
    put_toys(monkeypatch)
    leaves_what_is_not_its_own(writer, monkeypatch)


def leaves_what_is_not_its_own(writer, monkeypatch):
    starts = []
    for seed in range(CASES):
        with home_of_a_user(monkeypatch):
            told, changed = case(writer, seed)
        assert not changed, f"case {seed} ({told}) altered or deleted {changed}"
        starts += told
    assert any(said is None for _, _, said in starts), "some are written"
    assert len({(kind, fault) for kind, fault, _ in starts}) > 15, "they differ"
