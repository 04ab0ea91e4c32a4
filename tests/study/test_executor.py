"""Work is data: a worker that was sent to another process computes the same rows, in any order."""

import json
import os
import pickle
import subprocess
import sys

import own_plugin
import pytest
import torch
from records.made import plain, rows_in
from rounding import near
from routing.toys import questions
from study.configs import registry_of, written

from c3po_adaptive.progress import Paused, limited, silent
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import Records
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker
from c3po_adaptive.study.executor import Done, Piece
from c3po_adaptive.study.worker import run_pieces
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")
ARMS = {
    "base": {"optimizer": "none"},
    "ngd": {"optimizer": {"name": "ngd", "steps": 2}, "selector": {"name": "fixed", "n": 2, "experts": 5}},
    "halfway": {"optimizer": "halfway", "selector": {"name": "fixed", "n": 2, "experts": 5}},
}
THERE = """
import json, pickle, sys
worker = pickle.loads(sys.stdin.buffer.read())
piece = pickle.loads(bytes.fromhex(sys.argv[1]))
print(json.dumps([row.model_dump(mode='json') for row in worker(piece)]))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_tiny_checkpoint(tmp_path / "model", "olmoe")
    asked = questions(12, "q")
    for name, part in (("test", asked[:5]), ("references", asked[5:])):
        written(tmp_path / f"{name}.jsonl", part)
    return tmp_path


@pytest.fixture
def config(place):
    data = {"name": "sums", "questions": "test.jsonl", "split": None, "references": ["references.jsonl"]}
    return STUDY.parse({"model": "model", "datasets": [data], "arms": ARMS, "batch_size": 2})


@pytest.fixture
def registry():
    return registry_of(own_plugin.FILE)


def timeless(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def by_question(rows):
    """In the order of the rows."""
    return {f"{row['arm']}, {row['id']}": row for row in timeless(rows)}


def elsewhere(worker, piece):
    """The rows of a piece that is computed in another process."""
    done = subprocess.run(
        [sys.executable, "-c", THERE, pickle.dumps(piece).hex()],
        input=pickle.dumps(worker),
        capture_output=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},  # sums are rounded alike
    )
    return [AnswerRecord.model_validate(row) for row in json.loads(done.stdout)]


def test_a_sent_worker_computes_the_same_rows_with_the_plugins_that_it_was_told(place, config, registry):
    worker = ComparisonWorker(config, registry.paths)
    piece = Piece("sums", "halfway", 1)
    rows = elsewhere(worker, piece)
    assert timeless(map(plain, rows)) == near(timeless(map(plain, worker(piece))))
    assert [row.id for row in rows] == ["q2", "q3"]


def test_what_is_sent_is_plain(config, registry):
    worker = ComparisonWorker(config, registry.paths)
    worker(Piece("sums", "ngd", 0))
    assert len(pickle.dumps(worker)) < 20_000, "neither model nor references"
    again = pickle.loads(pickle.dumps(worker))
    assert (again.plugins, again.config) == (registry.paths, config)


def test_one_writer_keeps_the_order_that_pieces_come_in(place, config, registry):
    class Backwards:
        def map(self, compute, pieces):
            for piece in reversed(list(pieces)):
                yield Done(piece, compute(piece))

    STUDY.run(config, place / "forth", registry=registry)
    STUDY.run(config, place / "back", registry=registry, executor=Backwards())
    forth, back = (rows_in(place / name) for name in ("forth", "back"))
    assert list(by_question(forth)) != list(by_question(back))
    assert by_question(forth) == near(by_question(back))


def test_a_run_that_lost_some_rows_computes_their_pieces_alone(place, config, registry):
    STUDY.run(config, place / "run", registry=registry)
    records = place / "run" / "records.jsonl"
    before = records.read_text().splitlines(keepends=True)
    records.write_text("".join(before[:3] + before[4:12]))
    order = [f"q{i}" for i in range(5)]
    lost = [json.loads(line) for line in (before[3], *before[12:])]
    wanted = {(row["arm"], order.index(row["id"]) // config.batch_size) for row in lost}
    assert 1 < len(wanted) < 9, "some of three arms times three batches"
    seen = []

    class Watched:
        def map(self, compute, pieces):
            for piece in pieces:
                seen.append(piece)
                yield Done(piece, compute(piece))

    STUDY.run(config, place / "run", registry=registry, executor=Watched())
    assert sorted((p.arm, p.batch) for p in seen) == sorted(wanted)
    rows = map(json.loads, records.read_text().splitlines())
    assert by_question(rows) == near(by_question(map(json.loads, before)))


def test_an_executor_lets_go_when_a_run_is_cut_short(tmp_path):
    """While the error is still on its way: on a cluster others wait for the cores."""
    ended = []

    class Holding:
        def map(self, compute, pieces):
            try:
                yield from (Done(piece, ()) for piece in pieces)
            finally:
                ended.append(True)

    pieces = (Piece("sums", "base", batch) for batch in range(2))
    with pytest.raises(Paused) as error:
        run_pieces(None, Records(tmp_path, AnswerRecord), pieces, Holding(), limited(silent, 0))
    assert ended and error.tb
