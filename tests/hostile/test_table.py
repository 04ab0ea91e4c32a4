"""Every door with what has no business there: refused with our own error, and what was on disk stays as it was.

What is made by changing parts of what is valid is drawn in ``test_generated.py``; here is what that does not reach.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hostile.doors import BASE, SMALL, command, is_refused, passed, question, untouched
from remixing.test_remixer import remixer
from routing.toys import HashEmbedder, questions, reference_set
from safetensors.torch import load_file, save_file

from c3po_adaptive import Optimizer, load_moe_model
from c3po_adaptive.errors import DataError
from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.optimizers import PathwayOptimizer
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import Records, read_records
from c3po_adaptive.references.prefill_store import build_store, open_store
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.retrievers.base import Hits, Index, Retriever
from c3po_adaptive.selectors import LayerSelector
from c3po_adaptive.storage.checksummed import checksummed_name
from c3po_adaptive.storage.identity import digest_of_file
from c3po_adaptive.storage.run_folder import claim, claimed_config
from c3po_adaptive.study.kinds import read_study
from c3po_adaptive.tasks.question_files import load_questions
from c3po_adaptive.tasks.sources import LEARNED_FROM
from c3po_adaptive.tasks.sources import questions as questions_of
from c3po_adaptive.types import Pathway, Selection

pytestmark = pytest.mark.usefixtures("undrawn")

TEST = questions(3, "t")
LONGER = 1_000_001
HALF = "\ud800"
DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 10_000


def with_value(key, text):
    """A row with a value that is written as it stands."""
    row = question("a") | {key: "HERE"}
    return json.dumps(row).replace('"HERE"', text).encode()


def lettered(**changes):
    """A row as CommonsenseQA has it."""
    row = {"id": "a", "question": {"stem": "Is it?", "choices": [{"label": "A", "text": "x"}]}, "answerKey": "A"}
    return json.dumps(row | changes).encode()


def without(key):
    return json.dumps({k: v for k, v in question("a").items() if k != key}).encode()


NO_JSON = {
    "empty": b"",
    "a number": b"1",
    "a list": b"[]",
    "an object": b"{}",
    "null": b"null",
    "deep": DEEP.encode(),
    "a long number": DIGITS.encode(),
    "no UTF-8": b"\xff\xfe",
    "NUL": b"\0\0",
}

FILES = NO_JSON | {
    "blank": b" \n\n\t\n",
    "UTF-16": json.dumps(question("a")).encode("utf-16"),
    "NUL in a row": json.dumps(question("a")).encode().replace(b"odd", b"o\0d") + b"\0",
    "NUL in a string": with_value("question", '"a\0b"'),
    "BOM in the middle": b"\xef\xbb\xbf" * 2 + json.dumps(question("a")).encode(),
    "binary": bytes(range(256)),
    "deep, open": b"[" * 100_000,
    "deep in a row": with_value("more", DEEP),
    "a long number in a row": with_value("more", DIGITS),
    "two on a line": json.dumps(question("a")).encode() * 2,
    "cut": json.dumps(question("a")).encode()[:-5],
    "too long": with_value("question", '"' + "x" * LONGER + '"'),
    **{f"answer {value[:9]}": with_value("answer", value) for value in ("0.0", "9" * 4000)},
    "lettered, more labels": lettered(question="?", choices={"label": ["A", "B"], "text": ["x"]}),
}

GOOD_FILES = {
    "BOM": b"\xef\xbb\xbf" + json.dumps(question("a")).encode(),
    "CRLF": b"\r\n".join(json.dumps(question(i)).encode() for i in "ab") + b"\r\n",
    "CRLF in an array": b"[\r\n" + json.dumps(question("a")).encode() + b"\r\n]\r\n",
    "choices alike": with_value("choices", '["x", "x"]'),
    "U+2028": json.dumps(question("a", text="a\u2028b"), ensure_ascii=False).encode(),
    "right to left": json.dumps(question("a", text="\u202eabc")).encode(),
    "NUL escaped": json.dumps(question("a", text="a\0b")).encode(),
    **{f"no {key}": without(key) for key in ("id", "task")},
    "answer by its text": with_value("answer", '"no"'),
    "answer by its letter": with_value("answer", '"B"'),
    "NaN beside": with_value("more", "NaN"),
    "1e999 beside": with_value("more", "1e999"),
}


def kind(value: object) -> str:
    return type(value).__name__


class TestQuestionFiles:
    @pytest.mark.parametrize("content", FILES.values(), ids=FILES)
    def test_refused(self, place, tmp_path, content):
        file = tmp_path / "bad.jsonl"
        file.write_bytes(content)
        with untouched(tmp_path):
            is_refused(lambda: load_questions(file))
            assert command("refset", "build", file, "--model", "model", "--out", tmp_path / "set") == 1
        assert not (tmp_path / "set").exists()

    @pytest.mark.parametrize("content", GOOD_FILES.values(), ids=GOOD_FILES)
    def test_taken(self, tmp_path, content):
        (tmp_path / "odd.jsonl").write_bytes(content)
        assert load_questions(tmp_path / "odd.jsonl")

    @pytest.mark.parametrize("what", ["U+2028", "NUL escaped", "1e999 beside"])
    def test_built(self, place, tmp_path, what):
        (tmp_path / "odd.jsonl").write_bytes(GOOD_FILES[what])
        assert command("refset", "build", tmp_path / "odd.jsonl", "--model", "model", "--out", tmp_path / "set") == 0

    @pytest.mark.parametrize(
        "path",
        ["", ".", "/", "nowhere.jsonl", "x" * 300, "x/" * 3000, "a\0b", HALF, "\udcff.jsonl", "/dev/full/x"],
        ids=["empty", "here", "root", "nowhere", "long name", "long path", "NUL", "half", "byte", "below a device"],
    )
    def test_paths(self, place, path):
        is_refused(lambda: load_questions(path))
        if path == ".":  # a folder of question files is a source of them
            assert len(questions_of(path, usual=LEARNED_FROM)) == 12
        elif "\0" not in path and path != HALF:
            is_refused(lambda: questions_of(path))
            assert command("refset", "build", path, "--model", "model", "--out", "out") == 1

    def test_a_name_of_other_bytes(self, tmp_path):
        """The file's name becomes the id where a row has none."""
        file = tmp_path / os.fsdecode(b"\xff.jsonl")
        row = {"question": "?", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "answerKey": "A"}
        file.write_text(json.dumps(row))
        is_refused(lambda: load_questions(file))


VALID = {
    "model": "model",
    "datasets": [{"name": "t", "questions": "test.jsonl", "split": None, "references": ["references.jsonl"]}],
    "arms": {"base": BASE, "ngd": {"selector": SMALL}},
}


def configured(**changes):
    return yaml.safe_dump(VALID | changes, sort_keys=False).encode()


def bomb(levels, width=10):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


TEXTS = {
    "no UTF-8": b"model: \xff\xfe",
    "NUL": b"model: \0",
    "control character": b"model: \x07",
    "half of a character": b'model: "\\ud800"',
    "two documents": b"a: 1\n---\nb: 2",
    "a tab": b"a:\n\tb: 1",
    "deep lists": b"a: " + b"[" * 10_000 + b"]" * 10_000,
    "deep keys": b"{a: " * 3000 + b"}" * 3000,
    "deep, open": b"[" * 10_000,
    "no date": b"model: 2024-99-99",
    "a date": b"model: 2024-01-01",
    "a date as key": b"2024-01-01: 1",
    "python object": b"model: !!python/object/apply:os.system ['true']",
    "python name": b"model: !!python/name:os.system",
    "unknown tag": b"model: !mine 1",
    "binary": b"model: !!binary gIA=",
    "no binary": b"model: !!binary gI*",
    "timestamp that is none": b"seed: !!timestamp x",
    "a set": b"arms: !!set {a, b}",
    "omap": b"arms: !!omap [a: 1]",
    "omap that is none": b"arms: !!omap [1]",
    "pairs": b"arms: !!pairs [a: 1]",
    "no anchor": b"model: *nowhere",
    "merge of a number": b"<<: 1",
    "a list in itself": b"arms: &a [*a]",
    "an arm in itself": b"arms: {base: &a {optimizer: *a}}",
    "all in itself": b"&a {arms: *a, datasets: *a}",
    "a format in itself": b"format: &a {name: cloze, shots: *a}",
    "a spec in itself": configured() + b"  x: {optimizer: &a {name: ngd, lr: *a}}\n",
    "bomb": f"{bomb(6)}\narms: *a5".encode(),
    "bomb of an arm": f"arms:\n  base: {{optimizer: {{name: none, z: &a0 [x]}}}}\n  {bomb(6)}".encode(),
    "a list as key": b"? [1]\n: 2",
    "number as a spec's key": configured(arms={"base": {"optimizer": {"name": "none", 1: 2}}}),
    "seed: a long number": b"seed: " + DIGITS.encode(),
    "seed: a long number, hexadecimal": b"seed: 0x" + b"f" * 10_000,
    "an arm's long number": configured() + b"  x: {optimizer: {name: ngd, lr: 0x" + b"f" * 10_000 + b"}}\n",
    "arm: lr a date": configured() + b"  x: {optimizer: {name: ngd, lr: 2024-01-01}}\n",
    "arm: lr bytes": configured() + b"  x: {optimizer: {name: ngd, lr: !!binary gIA=}}\n",
    "arm: layers a set": configured() + b"  x: {selector: {name: fixed, layers: !!set {1}}}\n",
    "arm: layers in itself": configured() + b"  x: {selector: {name: fixed, layers: &a [*a]}}\n",
    "arm: n NaN": configured() + b"  x: {selector: {name: fixed, n: .nan}}\n",
    "arm: an optimizer in a selector": configured() + b"  x: {selector: {name: causal, optimizer: {name: 5}}}\n",
    "headline of none": configured(headline="nobody"),
    "questions nowhere": configured(datasets=[{"name": "t", "questions": "nowhere.jsonl"}]),
    "questions a folder": configured(datasets=[{"name": "t", "questions": "./model"}]),
    "questions NUL": configured(datasets=[{"name": "t", "questions": "a\0.jsonl"}]),
    "references half": b'datasets: [{name: t, questions: test.jsonl, references: ["\\ud800.jsonl"]}]',
    "model a file": configured(model="./test.jsonl"),
    "model NUL": configured(model="./a\0"),
    "device": configured(device="toaster"),
    "quantize": configured(quantize="1bit"),
    "max_similarity NaN": configured(max_similarity=float("nan")),
    "max_similarity infinite": configured(max_similarity=float("inf")),
}

SET = [
    *("seed=-1", f"seed={2**70}", "seed=1e400", "seed=.nan", "seed=true", "seed=", f"seed={DIGITS}", "seed=2024-99-99"),
    *("seed=0x" + "f" * 10_000, "seed=" + "[" * 5000 + "]" * 5000),
    *("", "=", "seed", "=1", ".=1", "..=1", "a.=1", "modle=1", "seed.x=1", "model.x=1", "datasets.-9.limit=1"),
    *("datasets.0.0=1", "arms..x=1", "arms.base.optimizer.lr=!!python/object/apply:os.system ['true']", "arms.base=*x"),
    *(f"model={HALF}", "model=\0", "model=\x07", "model={", "x" * 3000 + "=1", "x." * 3000 + "x=1"),
]


class TestConfigurations:
    @staticmethod
    def plan(file, *options):
        """Both commands that read a configuration refuse it; the first alone knows a size without loading."""
        statuses = [command("study", "plan", file, *options)]
        statuses.append(command("evaluate", "--config", file, "--out", file.parent / "run", *options))
        return statuses

    @pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
    def test_refused(self, place, tmp_path, content):
        file = tmp_path / "run.yaml"
        file.write_bytes(content)
        with untouched(tmp_path):
            passed(lambda: read_study(file))
            planned, run = self.plan(file)
            assert run == 1
            assert planned == (b"device: toaster" not in content)  # found out where it is loaded
        assert not (tmp_path / "run" / "records.jsonl").exists()

    @pytest.mark.parametrize("setting", SET, ids=lambda s: f"{s[:40]!a}")
    def test_settings_refused(self, place, tmp_path, setting):
        file = tmp_path / "run.yaml"
        file.write_bytes(configured())
        with untouched(tmp_path):
            passed(lambda: read_study(file, [setting]))
            if setting.isprintable():
                assert 0 not in self.plan(file, "--set", setting)

    @pytest.mark.parametrize("path", ["", ".", "nowhere.yaml", "x" * 300, "a\0b", "model"])
    def test_paths(self, place, path):
        is_refused(lambda: read_study(path))
        if "\0" not in path:
            assert command("study", "plan", path) == 1

    def test_the_valid_one_is_valid(self, place, tmp_path):
        """Without this the table would show nothing."""
        (tmp_path / "run.yaml").write_bytes(configured())
        assert command("study", "plan", tmp_path / "run.yaml") == 0


@pytest.fixture(scope="module")
def finished(place):
    """A run's folder."""
    (place / "run.yaml").write_bytes(configured())
    assert command("evaluate", "--config", "run.yaml", "--out", "finished") == 0
    return place / "finished"


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def resumed(run):
    return command("evaluate", "--config", "run.yaml", "--out", run)


LINES = {what: line for what, line in NO_JSON.items() if what != "empty"} | {
    "blank": b"",
    "half a line": b'{"arm": "base", "da',
    "UTF-16": '{"arm": 1}'.encode("utf-16"),
    "seed of 5,000 digits": b'{"arm": "base", "dataset": "t", "id": "a", "seed": "' + b"9" * 5000 + b'"}',
}
CLAIMS = NO_JSON | {
    "hash a number": b'{"hash": 1, "config": {}}',
    "another's hash": b'{"hash": "x", "config": {"a": 1}}',
    "half of a character": b'{"hash": "\\ud800", "config": {"\\ud800": "\\ud800"}}',
}
SUMMARIES = NO_JSON | {
    "rows of numbers": b'{"rows": [1]}',
    "no version": b'{"rows": [], "comparisons": [], "calibration": [], "baseline": "base", "control": "x"}',
}

RUN_FILES = ("records.jsonl", "config.json", "summary.json", "report.html", "records.parquet")


class TestRunFolders:
    @pytest.mark.parametrize("line", LINES.values(), ids=LINES)
    @pytest.mark.parametrize("where", ["first", "last, and a half line"])
    def test_lines_that_are_not_ours(self, run, line, where):
        """Refused before anything is altered, the half line at the end included."""
        path = run / "records.jsonl"
        rows = path.read_bytes()
        tail = b'{"half' if "half line" in where else b""
        path.write_bytes((line + b"\n" + rows if where == "first" else rows + line + b"\n") + tail)
        with untouched(run):
            is_refused(lambda: read_records(run, AnswerRecord))
            is_refused(lambda: Records(run, AnswerRecord))
            (run / "summary.json").rename(run.parent / "away")
            assert command("report", run) == 1
            (run.parent / "away").rename(run / "summary.json")

    @pytest.mark.parametrize("content", CLAIMS.values(), ids=CLAIMS)
    def test_claims_that_are_not_ours(self, run, content):
        (run / "config.json").write_bytes(content)
        with untouched(run):
            passed(lambda: claimed_config(run))
            is_refused(lambda: claim(run, {"a": 1}))
            assert resumed(run) == 1
            assert command("report", run) == 1

    @pytest.mark.parametrize("value", [HALF, {1, 2}, b"x", float("nan"), object()], ids=kind)
    def test_claims_that_are_written(self, tmp_path, value):
        is_refused(lambda: claim(tmp_path / "run", {"a": value}))
        assert not (tmp_path / "run" / "config.json").exists()

    @pytest.mark.parametrize("content", SUMMARIES.values(), ids=SUMMARIES)
    def test_summaries_that_are_not_ours(self, run, content):
        (run / "summary.json").write_bytes(content)
        with untouched(run):
            assert command("report", run) == 1

    @pytest.mark.parametrize("name", RUN_FILES)
    def test_folders_where_files_belong(self, run, name):
        (run / name).unlink()
        (run / name / "mine").mkdir(parents=True)
        with untouched(run / name):
            assert resumed(run) == 1
            if name != "records.parquet":
                assert command("report", run) == 1

    @pytest.mark.parametrize("path", ["test.jsonl", "test.jsonl/run", "x" * 300, "a\0b", HALF], ids=repr)
    def test_paths(self, place, path):
        with untouched(place):
            is_refused(lambda: claim(path, {}))
            is_refused(lambda: read_records(path, AnswerRecord))
            is_refused(lambda: claimed_config(path))
            if path.isprintable():
                assert command("report", path) == 1
                assert resumed(path) == 1


@pytest.fixture(scope="module")
def whole_set(tmp_path_factory):
    return reference_set("olmoe").save(tmp_path_factory.mktemp("set") / "set")


@pytest.fixture
def references(whole_set, tmp_path):
    return shutil.copytree(whole_set, tmp_path / "set")


def rehashed(folder):
    """The card again names the files that are there."""
    card = json.loads((folder / "card.json").read_text())
    card["files"] = {name: digest_of_file(folder / name) for name in card["files"]}
    (folder / "card.json").write_text(json.dumps(card))


def used(folder):
    """A set that was taken is used: it answers, or says why not."""
    return remixer(references=ReferenceSet.load(folder)).answer(TEST)


def columns(change):
    """A table with some columns changed; None takes one away."""

    def damage(folder):
        path = folder / "questions.parquet"
        rows = pq.read_table(path).to_pylist()
        made = {k: [row[k] for row in rows] for k in rows[0]}
        for name, value in change.items():
            if value is None:
                del made[name]
            else:
                made[name] = [value(row) for row in rows] if callable(value) else [value] * len(rows)
        pq.write_table(pa.table(made), path)

    return damage


def table(make):
    return lambda folder: pq.write_table(
        make(pq.read_table(folder / "questions.parquet")), folder / "questions.parquet"
    )


def twice_named(found):
    return pa.table([found.column(0), *found.columns], names=[found.schema.names[0], *found.schema.names])


def of_no_text(found):
    wrong = pa.array([b"\xff\xfe"] * len(found)).cast(pa.binary()).view(pa.string())
    return found.set_column(found.column_names.index("question"), "question", wrong)


TABLES = {
    **{f"no {name}": columns({name: None}) for name in ("id", "question", "choices", "answer", "scores", "correct")},
    "id bytes": columns({"id": b"\xff"}),
    "choices of numbers": columns({"choices": lambda row: [1, 2]}),
    "answer half": columns({"answer": 0.5}),
    "scores more": columns({"scores": lambda row: [0.0] * 40}),
    "correct a number": columns({"correct": 7}),
    "no rows": table(lambda found: found.slice(0, 0)),
    "fewer rows": table(lambda found: found.slice(0, 3)),
    "more rows": table(lambda found: pa.concat_tables([found, found])),
    "no columns": table(lambda found: found.select([])),
    "a column twice": table(twice_named),
    "no table": lambda folder: (folder / "questions.parquet").write_bytes(b"PAR1 no PAR1"),
    "empty": lambda folder: (folder / "questions.parquet").write_bytes(b""),
}


def tensors(change):
    def damage(folder):
        path = folder / "tensors.safetensors"
        save_file({k: v.contiguous() for k, v in change(load_file(path)).items()}, path)

    return damage


def one(name, change):
    return tensors(lambda t: t | {name: change(t[name])})


TENSORS = {
    "other names": tensors(lambda t: {f"x{k}": v for k, v in t.items()}),
    "none": tensors(lambda t: {}),
    "no pathways": tensors(lambda t: {"embeddings": t["embeddings"]}),
    "empty": lambda folder: (folder / "tensors.safetensors").write_bytes(b""),
    "no tensors": lambda folder: (folder / "tensors.safetensors").write_bytes(b"\xff" * 100),
    "a huge header": lambda folder: (folder / "tensors.safetensors").write_bytes(b"\xff" * 7 + b"\x7f" + b"{}"),
    **{
        f"{name} {what}": one(name, change)
        for name in ("embeddings", "pathways")
        for what, change in {
            "NaN": lambda t: t * float("nan"),
            "infinite": lambda t: t + float("inf"),
            "fewer": lambda t: t[:3],
            "more": lambda t: torch.cat([t, t]),
            "flat": lambda t: t.flatten(),
            "of no width": lambda t: t[..., :0],
            "narrower": lambda t: t[..., :-1],
            "wider": lambda t: torch.cat([t, t], -1),
            "an axis more": lambda t: t[None],
            "a scalar": lambda t: torch.tensor(1.0),
            "whole numbers": lambda t: t.long(),
            "bool": lambda t: t > 0,
            "bfloat16": lambda t: t.bfloat16(),
            "float16": lambda t: t.half(),
            "float64": lambda t: t.double(),
            "complex": lambda t: t.to(torch.complex64),
            "float8": lambda t: t.to(torch.float8_e4m3fn),
            "negative": lambda t: -t,
            "zero": lambda t: t * 0,
        }.items()
    },
    "pathways of fewer layers": one("pathways", lambda t: t[:, :1]),
    "pathways large": one("pathways", lambda t: t * 1e30),
    "embeddings large": one("embeddings", lambda t: t * 1e30),
}
WRONG_TENSORS = {
    name
    for name in TENSORS
    if any(
        w in name for w in ("NaN", "infin", "fewer", "more", "flat", "scalar", "none", "no ", "names", "empty", "huge")
    )
}


FOREIGN = {
    "each id once": columns({"id": "same"}),
    "answer 99 of": columns({"answer": 99}),
    "answer -1 of": columns({"answer": -1}),
    "not finite": columns({"scores": lambda row: [float("nan")] * len(row["scores"])}),
    "two at least": columns({"choices": lambda row: ["one"], "scores": lambda row: [0.0], "answer": 0}),
    "the questions of a reference set at": table(of_no_text),
    "pathways >= 0": one("pathways", lambda t: -t),
    "embeddings with a direction": one("embeddings", lambda t: t * 0),
}
"""Sets that others made: what is said of each."""


class TestReferenceSets:
    @pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
    def test_cards_that_are_not_ours(self, references, content):
        (references / "card.json").write_bytes(content)
        with untouched(references):
            is_refused(lambda: ReferenceSet.load(references))
            for name in ("show", "check"):
                assert command("refset", name, references) == 1

    @pytest.mark.parametrize("name", ["", "..", "x" * 300, "a\0b", HALF, "/etc/passwd"], ids=repr)
    def test_names_of_files(self, references, name):
        card = json.loads((references / "card.json").read_text())
        card["files"][name] = "0" * 64
        (references / "card.json").write_text(json.dumps(card))
        is_refused(lambda: ReferenceSet.load(references))

    @pytest.mark.parametrize("left", [(), ("questions.parquet",), ("tensors.safetensors",)], ids=repr)
    def test_files_that_no_hash_is_of(self, references, left):
        """Without its hash a file that is cut short could not be told from a whole one."""
        card = json.loads((references / "card.json").read_text())
        card["files"] = {name: card["files"][name] for name in left}
        (references / "card.json").write_text(json.dumps(card))
        for path in (references / "questions.parquet", references / "tensors.safetensors"):
            path.write_bytes(path.read_bytes()[:200])
        is_refused(lambda: ReferenceSet.load(references))

    @pytest.mark.parametrize("damage", TABLES.values(), ids=TABLES)
    def test_tables_of_other_columns(self, references, damage):
        damage(references)
        rehashed(references)
        with untouched(references):
            is_refused(lambda: used(references))
            command("refset", "show", references)

    @pytest.mark.parametrize("damage", TENSORS.values(), ids=TENSORS)
    def test_tensors_of_other_shapes(self, references, damage, request):
        damage(references)
        rehashed(references)
        check = is_refused if request.node.callspec.id in WRONG_TENSORS else passed
        check(lambda: used(references))

    @pytest.mark.parametrize("said", FOREIGN)
    def test_what_cannot_be_references_is_refused_in_words(self, references, said):
        FOREIGN[said](references)
        rehashed(references)
        with pytest.raises(DataError, match=said):
            ReferenceSet.load(references)

    def test_half_precision_is_read(self, references):
        one("embeddings", lambda t: t.bfloat16())(references)
        one("pathways", lambda t: t.half())(references)
        rehashed(references)
        assert ReferenceSet.load(references).pathways.dtype == torch.float32

    @pytest.mark.parametrize("name", ["card.json", "questions.parquet", "tensors.safetensors"])
    def test_folders_where_files_belong(self, references, name):
        (references / name).unlink()
        (references / name).mkdir()
        is_refused(lambda: ReferenceSet.load(references))

    @pytest.mark.parametrize("path", ["", "nowhere", "x" * 300, "a\0b", HALF], ids=repr)
    def test_paths(self, place, path):
        is_refused(lambda: ReferenceSet.load(path))
        is_refused(lambda: Pathway.load(path))

    @pytest.mark.parametrize(
        "name", ["", "..", "a\0b", HALF, "/nowhere", "~/set", "a/b/c", "x" * 300, "a--b/c"], ids=repr
    )
    def test_names_that_no_repository_has(self, place, name):
        for kind in (ReferenceSet, Pathway):
            is_refused(lambda kind=kind: kind.from_pretrained(name))

    def test_other_kinds_of_names(self, references):
        loaded = ReferenceSet.load(references)
        for name in (None, 5, ["a"], "a/b/c", ""):
            is_refused(lambda name=name: loaded.push_to_hub(name, token="none"))


@pytest.fixture(scope="module")
def whole_store(whole_set, tmp_path_factory):
    """A set in a folder, and its store beside it."""
    folder = shutil.copytree(whole_set, tmp_path_factory.mktemp("store") / "set")
    references = ReferenceSet.load(folder)
    build_store(references, remixer().model, folder / "warm")
    return folder


@pytest.fixture
def store(whole_store, tmp_path):
    return shutil.copytree(whole_store, tmp_path / "set") / "warm"


def read(folder):
    """Every state of the store beside a set; None where there is no store for it."""
    references = ReferenceSet.load(folder.parent)
    found = open_store(references, remixer().model, folder, "cloze")
    return None if found is None else found.states(found.prompts)


def renamed(path):
    path.rename(path.with_name(checksummed_name(path, path.name.partition(".")[0], ".safetensors")))


def shard(change):
    """The shard with other tensors, under a name that fits them."""

    def damage(path):
        save_file({k: v.contiguous() for k, v in change(load_file(path)).items()}, path)
        renamed(path)

    return damage


def bytes_of_shard(content):
    def damage(path):
        path.write_bytes(content)
        renamed(path)

    return damage


SHARDS = {
    "none": shard(lambda t: {}),
    "other names": shard(lambda t: {f"x{k}": v for k, v in t.items()}),
    "another number": shard(lambda t: {f"9{k}": v for k, v in t.items()}),
    "no tensors": bytes_of_shard(b"\xff" * 100),
    "empty": bytes_of_shard(b""),
    **{f"no {name}": shard(lambda t, name=name: {k: v for k, v in t.items() if not k.endswith(f"/{name}")})
       for name in ("entry", "own", "router", "scores", "final", "slope", "normalizer")},
    "flat": shard(lambda t: {k: v.flatten() for k, v in t.items()}),
    "whole numbers": shard(lambda t: {k: v.long() for k, v in t.items()}),
    "narrow": shard(lambda t: {k: v[..., :1] for k, v in t.items()}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*is of another model, format, set or release:UserWarning")
class TestPrefillStores:
    @pytest.mark.parametrize("damage", SHARDS.values(), ids=SHARDS)
    def test_shards_of_other_tensors(self, store, damage):
        damage(*store.iterdir())
        passed(lambda: remixer(references=ReferenceSet.load(store.parent)).answer(TEST))
        passed(lambda: read(store))

    def test_a_file_where_the_folder_belongs(self, store):
        shutil.rmtree(store)
        store.write_text("mine")
        references = ReferenceSet.load(store.parent)
        with untouched(store.parent):
            passed(lambda: read(store))
            is_refused(lambda: build_store(references, remixer().model, store))

    @pytest.mark.parametrize("name", ["", "x" * 300, "a\0b", HALF], ids=repr)
    def test_paths(self, place, name):
        passed(lambda: open_store(reference_set("olmoe"), remixer().model, place / name, "cloze"))
        if name:
            is_refused(lambda: build_store(reference_set("olmoe"), remixer().model, place / name))


@dataclass(frozen=True)
class Returning(PathwayOptimizer):
    """Returns what it is told to."""

    made: Callable[[Any], Any]
    name: ClassVar[str] = "returning"

    def optimize(self, problem):
        return self.made(problem)


@dataclass(frozen=True)
class Choosing(LayerSelector):
    """Selects what it is told to."""

    made: Callable[[Any], Any]
    prepared: Any = "itself"
    name: ClassVar[str] = "choosing"

    def select(self, problem):
        return self.made(problem)

    def prepare(self, training):
        return self if self.prepared == "itself" else self.prepared


@dataclass(frozen=True)
class Finding(Retriever):
    """Finds what it is told to."""

    made: Callable[[int], Any]
    fitted: Any = "an index"
    name: ClassVar[str] = "finding"

    def fit(self, vectors):
        return _Finding(self.made) if self.fitted == "an index" else self.fitted


@dataclass
class _Finding(Index):
    made: Callable[[int], Any]

    def search(self, queries, **options):
        return self.made(len(queries))


@dataclass(frozen=True)
class Weighing(Gaussian):
    """Weighs as it is told to."""

    made: Callable[[Any], Any] = lambda values: values
    name: ClassVar[str] = "weighing"

    def __call__(self, x, y):
        return self.made(super().__call__(x, y))


THINGS = {
    "None": lambda given: None,
    "a number": lambda given: 5,
    "a word": lambda given: "own",
    "a list": lambda given: [],
    "a function": lambda given: print,
    "a tensor": lambda given: torch.zeros(()),
    "no numbers": lambda given: torch.zeros(0),
    "itself": lambda given: given,
    "an exit": lambda given: sys.exit,
}

WEIGHTS = THINGS | {
    "an array": lambda p: p.own.numpy(),
    "flat": lambda p: p.own.flatten(),
    "fewer samples": lambda p: p.own[:1],
    "fewer experts": lambda p: p.own[..., :-1],
    "an axis more": lambda p: p.own[None],
    "NaN": lambda p: p.own * float("nan"),
    "infinite": lambda p: p.own + float("inf"),
    "negative": lambda p: -p.own,
    "zero": lambda p: p.own * 0,
    "bool": lambda p: p.own > 0,
    "whole numbers": lambda p: p.own.long(),
    "complex": lambda p: p.own.to(torch.complex64),
    "complex, not real": lambda p: p.own * 1j,
    "elsewhere": lambda p: p.own.to("meta"),
    "sparse": lambda p: p.own.to_sparse(),
    "float8": lambda p: p.own.to(torch.float8_e4m3fn),
}

NO_WEIGHTS = ("None", "NaN", "infinite", "negative", "flat", "zero", "fewer samples", "bool")

MASKS = {
    "None": lambda p: None,
    "flat": lambda p: (p.own > 0).flatten(),
    "an array": lambda p: (p.own > 0).numpy(),
    "a list": lambda p: (p.own > 0).tolist(),
    "elsewhere": lambda p: (p.own > 0).to("meta"),
    "a word": lambda p: "mask",
}


def selection(**changes):
    return lambda p: Selection(**{"mask": p.own > 0} | {k: v(p) for k, v in changes.items()})


SELECTIONS = THINGS | {
    **{f"mask {k}": selection(mask=v) for k, v in MASKS.items()},
    **{f"scores {k}": selection(scores=v) for k, v in THINGS.items() if k != "None"},
    **{f"strength {k}": selection(strength=v) for k, v in THINGS.items() if k != "None"},
    "scores flat": selection(scores=lambda p: p.own.sum(-1).flatten()),
    "scores a list": selection(scores=lambda p: p.own.sum(-1).tolist()),
    "scores an array": selection(scores=lambda p: p.own.sum(-1).numpy()),
    "strength fewer": selection(strength=lambda p: p.own.sum((1, 2))[:1]),
}


def hits(index, similarity=lambda b: np.zeros((b, 2))):
    return lambda b: Hits(index(b), similarity(b))


def rows(b):
    return np.zeros((b, 2), np.int64)


FOUND = THINGS | {
    **{f"index {k}": hits(v) for k, v in THINGS.items()},
    **{f"similarity {k}": hits(rows, v) for k, v in THINGS.items()},
    "flat": hits(lambda b: rows(b).flatten(), lambda b: np.zeros(2 * b)),
    "fewer": hits(lambda b: rows(1), lambda b: np.zeros((1, 2))),
    "another width": hits(rows, lambda b: np.zeros((b, 3))),
    "beyond": hits(lambda b: rows(b) + 10_000),
    "below": hits(lambda b: rows(b) - 5),
    "NaN": hits(rows, lambda b: np.full((b, 2), np.nan)),
    "infinite": hits(rows, lambda b: np.full((b, 2), np.inf)),
    "index of halves": hits(lambda b: rows(b) + 0.5),
    "index of NaN": hits(lambda b: rows(b) * np.nan),
    "index of words": hits(lambda b: rows(b).astype(str)),
    "index of objects": hits(lambda b: rows(b).astype(object)),
    "index of tensors": hits(lambda b: torch.from_numpy(rows(b))),
    "index of bools": hits(lambda b: rows(b) > 0),
    "similarity of words": hits(rows, lambda b: rows(b).astype(str)),
    "similarity of objects": hits(rows, lambda b: np.full((b, 2), None)),
    "similarity complex": hits(rows, lambda b: rows(b) * 1j),
    "something alike": lambda b: SimpleNamespace(index=[[0]] * b, similarity=[[0.0]] * b),
}
SOUND = {"index of tensors", "index of bools", "float8", "an exit"}

KERNELS = {
    "None": lambda v: None,
    "a number": lambda v: 5,
    "a word": lambda v: "x",
    "flat": lambda v: v.flatten(),
    "empty": lambda v: v[:, :0],
    "fewer": lambda v: v[:, :1].repeat(2, 1),
    "more": lambda v: np.concatenate([v, v], -1),
    "NaN": lambda v: v * np.nan,
    "infinite": lambda v: v + np.inf,
    "words": lambda v: v.astype(str),
    "objects": lambda v: np.full(v.shape, None),
    "complex": lambda v: v * 1j,
    "a list": lambda v: v.tolist(),
}


def answered(**changes):
    return lambda: remixer(**changes).answer(TEST)


class TestPlugins:
    @pytest.mark.parametrize("what", WEIGHTS)
    def test_optimizers(self, what):
        check = is_refused if what in NO_WEIGHTS else passed
        check(answered(optimizer=Returning(WEIGHTS[what])))

    @pytest.mark.parametrize("made", SELECTIONS.values(), ids=SELECTIONS)
    def test_selectors(self, made):
        is_refused(answered(selector=Choosing(made)))

    @pytest.mark.parametrize("prepared", [None, 5, "x", FOUND], ids=["None", "number", "word", "mapping"])
    def test_selectors_prepared(self, prepared):
        is_refused(answered(selector=Choosing(selection(), prepared)))

    @pytest.mark.parametrize("made", FOUND.values(), ids=FOUND)
    def test_retrievers(self, made, request):
        (passed if request.node.callspec.id in SOUND else is_refused)(answered(retriever=Finding(made)))

    @pytest.mark.parametrize("fitted", [None, 5, []], ids=repr)
    def test_retrievers_fitted(self, fitted):
        is_refused(answered(retriever=Finding(rows, fitted)))

    @pytest.mark.parametrize("what", KERNELS)
    def test_kernels(self, what):
        check = is_refused if what in ("None", "words", "NaN", "infinite", "more", "a word") else passed
        check(answered(kernel=Weighing(made=KERNELS[what])))


ASKED = {
    "empty": "",
    "spaces": "   ",
    "whitespace": " \t\r\n\u2003\u2028",
    "NUL": "\0",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "right to left": "\u202e\u200f\u2067",
    "zero width": "\u200b\u200d\ufeff",
    "half of a character": HALF,
    "the other half": "Is it \udfff so?",
    "beyond the BMP": "\U0010ffff\U0001f600",
    "combining": "e" + "\u0301" * 400,
    "too long": "x" * LONGER,
    "too long, of whitespace": " " * LONGER,
    "template": "{question} %s ${x} {{x}}",
    "special tokens": "<|endoftext|></s><s>[INST]<pad>",
}
NO_TEXTS = {
    "None": None,
    "a number": 5,
    "bytes": b"Is it so?",
    "a list": [],
    "a list of None": [None],
    "NaN": float("nan"),
}
UNREADABLE = ("empty", "spaces", "whitespace", "half of a character", "the other half", "too long")
CHOICES = {
    "none": [],
    "one": ["x"],
    "an empty one": ["x", ""],
    "a blank one": ["x", "  "],
    "half of a character": ["x", HALF],
    "too long": ["x", "y" * LONGER],
    "numbers": [1, 2],
    "None": [None, None],
    "a word": "ab",
    "a number": 5,
    "bytes": [b"x", b"y"],
    "nested": [["x"], ["y"]],
    "nothing": None,
}


@pytest.fixture(scope="module")
def c3po(place):
    model = load_moe_model(place / "model")
    path = place / "references.jsonl"
    return Optimizer(model, path, selector=SMALL, optimizer={"name": "ngd", "steps": 1}, embedder=HashEmbedder())


def generated(model, text):
    """A text of many tokens must be refused before it comes to the model, which would take hours."""
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(text, str) and len(text) > 10_000:
            patch.setattr(model.model, "generate", lambda **given: pytest.fail("it was not refused"))
        return model.generate(text, max_new_tokens=2, do_sample=False)


def doors(c3po, text, choices=("yes", "no")):
    """Every call that takes a text."""
    return {
        "answer": lambda: c3po.answer(text, choices),
        "answers": lambda: c3po.answer([text], [choices]),
        "explain": lambda: c3po.explain(text, choices),
        "score_choices": lambda: c3po.model.score_choices(text, choices),
        "letters": lambda: c3po.model.score_choices(text, choices, format="letter"),
        "record": lambda: c3po.answer(replace(TEST[0], question=text, choices=choices)),
        "problem": lambda: c3po.problem(text, choices),
        "optimize": lambda: c3po.optimize(text),
        "explain text": lambda: c3po.explain(text),
        "pathway": lambda: c3po.model.pathway(text),
        "forward": lambda: c3po.model.forward(text),
        "generate": lambda: generated(c3po.model, text),
    }


OF_QUESTIONS = ("answer", "answers", "explain", "score_choices", "letters", "record", "problem")
OF_TEXTS = ("optimize", "explain text", "pathway", "forward", "generate")


class TestQuestions:
    @pytest.mark.parametrize("what", ASKED)
    @pytest.mark.parametrize("door", OF_QUESTIONS + OF_TEXTS)
    def test_texts(self, c3po, door, what):
        """Where there are choices, a question may be empty."""
        refused = UNREADABLE if door in OF_TEXTS else UNREADABLE[3:]
        (is_refused if what in refused else passed)(doors(c3po, ASKED[what])[door])

    @pytest.mark.parametrize("text", NO_TEXTS.values(), ids=NO_TEXTS)
    @pytest.mark.parametrize("door", OF_QUESTIONS + OF_TEXTS)
    def test_no_texts(self, c3po, door, text):
        passed(doors(c3po, text)[door])

    @pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)
    @pytest.mark.parametrize("door", OF_QUESTIONS)
    def test_choices(self, c3po, door, choices):
        passed(doors(c3po, "Is it so?", choices)[door])

    @pytest.mark.parametrize("what", ["empty", "control characters", "half of a character", "right to left"])
    def test_from_the_command_line(self, place, what):
        text = ASKED[what].replace("\0", "")
        how = ("--model", "model", "--refset", "references.jsonl", "--arm", "base")
        command("explain", text, "--choice", "yes", "--choice", "no", *how)
        command("explain", "Is it so?", "--choice", text, "--choice", "no", *how)
