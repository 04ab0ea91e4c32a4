"""Pieces on a Ray cluster: the same results, whatever dies; and what workers are sent."""

import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from routing.toys import questions
from study.configs import parse_config

from c3po_adaptive.errors import DataError, ModelError, SettingError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study.comparison.run import evaluate
from c3po_adaptive.study.comparison.worker import ComparisonWorker
from c3po_adaptive.study.executor import Done, Piece
from c3po_adaptive.study.ray_engine import Groups, Parcel, RayExecutor, Seat, _share
from c3po_adaptive.study.shards import build_set_by, build_store_by
from c3po_adaptive.testing import write_tiny_checkpoint

ray = pytest.importorskip("ray")
FIXED = {"name": "fixed", "n": 2, "experts": 5}
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


def written(file, asked):
    file.write_text("".join(json.dumps(asdict(q)) + "\n" for q in asked), encoding="utf-8")
    return str(file)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    write_tiny_checkpoint(tmp_path / "model", "olmoe")
    (tmp_path / "facts.txt").write_text("Wood floats.\n\nStones sink.\n")
    return parse_config(
        {
            "model": str(tmp_path / "model"),
            "datasets": [
                {
                    "name": "toy",
                    "questions": written(tmp_path / "test.jsonl", questions(12, "t")),
                    "split": None,
                    "references": [written(tmp_path / "references.jsonl", questions(20))],
                }
            ],
            "arms": {
                "base": {"optimizer": "none"},
                "ngd": {"optimizer": {"name": "ngd", "steps": 2}, "selector": FIXED},
                "told": {
                    "optimizer": "none",
                    "answerer": {"name": "informed", "passages": str(tmp_path / "facts.txt")},
                },
            },
            "batch_size": 3,
        }
    )


@pytest.fixture(scope="module")
def cluster():
    """Ray's own test cluster: two nodes of one core each on this machine."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_AUTH_MODE"] = "disabled"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made.address
    ray.shutdown()
    made.shutdown()


def rows(out):
    lines = (out / "records.jsonl").read_text(encoding="utf-8").splitlines()
    found = {(r["arm"], r["id"]): r for r in map(json.loads, lines)}
    assert len(found) == len(lines), "no row twice"
    return found


def same(one, other):
    assert one.keys() == other.keys()
    for key, row in one.items():
        assert row["choice"] == other[key]["choice"]
        assert row["scores"] == pytest.approx(other[key]["scores"], abs=1e-5)


def seats():
    """Processes of this machine in which a worker sits."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("Seat" in part for part in process.info["cmdline"] or []):
            found.append(process)
    return found


def killing(stop, count, killed):
    """Kill one worker after another by -9."""
    drawn = random.Random(count)
    while len(killed) < count and not stop.wait(drawn.uniform(0.1, 1.0)):
        if alive := seats():
            victim = drawn.choice(alive)
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.pid)


def run_with_kills(config, out, address, kills):
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=killing, args=(stop, kills, killed))
    killer.start()
    try:
        evaluate(config, out, executor=RayExecutor(address))
    finally:
        stop.set()
        killer.join()
    assert killed, "some worker was killed"


@pytest.mark.slow  # where machines are busy, Ray may take a node for dead
def test_two_nodes_give_what_one_process_gives_though_workers_are_killed(config, tmp_path, cluster):
    evaluate(config, tmp_path / "here")
    run_with_kills(config, tmp_path / "ray", cluster, kills=2)
    same(rows(tmp_path / "here"), rows(tmp_path / "ray"))


@pytest.mark.slow
def test_twenty_of_twenty(config, tmp_path, cluster):
    evaluate(config, tmp_path / "here")
    for number in range(20):
        run_with_kills(config, tmp_path / f"ray{number}", cluster, kills=1)
        same(rows(tmp_path / "here"), rows(tmp_path / f"ray{number}"))


FATAL = """
import os
from dataclasses import dataclass
from typing import ClassVar
from c3po_adaptive import hookimpl
from c3po_adaptive.optimizers import NoStep

@dataclass(frozen=True)
class Fatal(NoStep):
    '''Kills its process.'''
    name: ClassVar[str] = "fatal"

    def optimize(self, problem):
        os.kill(os.getpid(), 9)

@hookimpl
def register_optimizers():
    return [Fatal]
"""


@pytest.mark.slow
def test_a_piece_that_kills_every_worker_ends_the_run(config, tmp_path, cluster):
    (tmp_path / "fatal.py").write_text(FATAL)
    registry = new_registry()
    registry.load_file(tmp_path / "fatal.py")
    raw = config.model_dump(mode="json")
    raw["arms"]["fatal"] = {"optimizer": "fatal", "selector": FIXED}
    with pytest.raises(DataError, match=r"survives Piece\(dataset='toy', arm='fatal'"):
        evaluate(parse_config(raw), tmp_path / "ray", registry=registry, executor=RayExecutor(cluster))


@pytest.mark.slow
def test_a_set_is_built_and_warmed_by_workers(config, tmp_path, cluster):
    model, asked = load_moe_model(config.model), questions(150)
    load, executor = {"model": config.model}, RayExecutor(cluster)
    there = build_set_by(executor, model, load, asked)
    here = build_reference_set(model, asked, default_embedder())
    assert torch.allclose(here.pathways, there.pathways, atol=1e-6)
    assert there.correct.equal(here.correct)
    store = build_store_by(executor, model, load, there, tmp_path / "there")
    prompts = [model.encode(q) for q in there.successes.questions]
    for kept, own in zip(store.states(prompts), model.prefill(prompts), strict=True):
        assert torch.allclose(kept.final, own.final, atol=1e-5)


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on(config, tmp_path):
    """The command line, on a cluster of its own, killed by -9 and given again."""
    evaluate(config, tmp_path / "here")
    (tmp_path / "config.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    command = [sys.executable, "-m", "c3po_adaptive", "study", "run", str(tmp_path / "config.yaml")]
    command += ["--out", str(tmp_path / "ray"), "--engine", "ray", "--workers", "2"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = tmp_path / "ray" / "records.jsonl"
    for _ in range(600):
        if records.is_file() and records.read_text().count("\n") >= 3:
            break
        time.sleep(0.1)
    first.kill()
    first.wait()
    subprocess.run(command, check=True, capture_output=True)
    same(rows(tmp_path / "here"), rows(tmp_path / "ray"))


def test_workers_are_sent_contents(config, tmp_path, monkeypatch):
    """Files that are gone where the worker sits are there for it all the same."""
    plugin = tmp_path / "still.py"
    plugin.write_text(PLUGIN)
    registry = new_registry()
    registry.load_file(plugin)
    raw = config.model_dump(mode="json")
    raw["arms"]["still"] = {"optimizer": "still", "selector": FIXED}
    monkeypatch.chdir(tmp_path)
    raw["arms"]["told"]["answerer"]["passages"] = "facts.txt"  # by a relative path
    worker = ComparisonWorker.here(parse_config(raw), registry)
    parcel = Parcel.of(worker)
    for name in ("still.py", "facts.txt", "test.jsonl", "references.jsonl"):
        (tmp_path / name).unlink()
    there = parcel.unpack()
    assert Path.cwd() != tmp_path
    assert there.registry.names("optimizer") == registry.names("optimizer")
    assert Path("facts.txt").read_text().startswith("Wood")
    assert there.data.keys() == worker.data.keys()
    for arm in ("still", "told"):
        assert len(there.rows(Piece("toy", arm, 0))) == 3


def test_pieces_of_an_arm_stay_together():
    pieces = [Piece("toy", arm, batch) for arm in ("a", "b", "c") for batch in range(3)]
    groups = Groups(pieces)
    first = [groups.next_for(0), groups.next_for(1)]
    assert [p.arm for p in first] == ["a", "b"]
    order = [groups.next_for(worker) for worker in (0, 0, 1, 0, 0, 0, 1)]
    assert [p.arm for p in order] == ["a", "a", "b", "c", "c", "c", "b"]
    assert groups.next_for(0) is None
    assert {*first, *order} == {*pieces}


def test_a_worker_that_ray_gave_up_on_is_replaced(config, monkeypatch):
    """Once for one piece, and no more."""
    worker = ComparisonWorker.here(config, new_registry())
    pieces = [Piece("toy", "base", 0), Piece("toy", "base", 1)]
    for deaths, ends in ((1, True), (2, False)):
        executor = RayExecutor(workers=1)
        dying = Dying(deaths)
        found = executor._computed(dying, worker, Groups(pieces))
        if ends:
            assert {done.piece for done in found} == set(pieces)
            assert dying.made == 1 + deaths
        else:
            with pytest.raises(DataError, match=r"a worker that survives Piece\(dataset='toy'"):
                list(found)


class Dying:
    """Ray, as far as it is used, with a worker that dies so often while it has the first piece."""

    exceptions = ray.exceptions

    def __init__(self, deaths):
        self.deaths, self.made = deaths, 0

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 1.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]

    def put(self, value):
        return value

    def remote(self, **options):
        def class_(kind):
            def begin():
                self.made += 1
                seat = kind()
                return SimpleNamespace(
                    compute=SimpleNamespace(remote=lambda parcel, piece: partial(seat.compute, parcel, piece))
                )

            return SimpleNamespace(remote=begin)

        return class_

    def wait(self, waiting, num_returns):
        return waiting[:1], waiting[1:]

    def get(self, called):
        piece = called.args[1]
        if piece.batch == 0 and self.deaths > 0:
            self.deaths -= 1
            raise ray.exceptions.RayActorError()
        return Done(piece, ())


@pytest.mark.parametrize(
    ("held", "count", "share"),
    [
        ([4], 2, 2),
        ([1, 1], 1, 1),
        ([4, 4, 4], 2, 4),
        ([4, 4, 4], 4, 2),
        ([2], 4, 1 / 2),
        ([1, 1], 3, 1 / 2),
        ([8, 1], 3, 2),
    ],
)
def test_workers_ask_for_what_a_node_has(held, count, share):
    """One that asks for more than that is never begun."""
    assert _share(held, count) == share
    assert sum(int(node / share) for node in held) >= count


def test_the_last_group_is_shared():
    groups = Groups([Piece("toy", "a", batch) for batch in range(4)])
    assert [groups.next_for(worker).batch for worker in (0, 1, 0, 1)] == [0, 1, 2, 3]


@pytest.mark.slow
def test_other_inputs_are_refused_in_the_errors_own_words(config, tmp_path, cluster):
    worker = ComparisonWorker.here(config, new_registry())
    worker.inputs = {"model": "another"}
    with pytest.raises(DataError, match=r"another model .*\(the worker on "):
        list(RayExecutor(cluster).map(worker, [Piece("toy", "base", 0)]))


def test_an_address_that_does_not_answer_is_told_at_once():
    with socket.socket() as held:  # taken, and nobody listens
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            with pytest.raises(DataError, match=rf"Ray cluster at {address}, got: .*refused.*--port {port}"):
                RayExecutor(address)._connect()


def test_an_address_that_is_none():
    with pytest.raises(DataError, match="Ray cluster at nonsense, got: Invalid address"):
        RayExecutor("nonsense")._connect()


def test_a_full_disk_where_a_worker_sits(config, tmp_path, monkeypatch):
    worker = ComparisonWorker.here(config, new_registry())
    (tmp_path / "file").write_text("in the way")
    parcel = Parcel(worker, worker.data, {str(tmp_path / "file" / "facts.txt"): b"Wood floats."}, ())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"Could not write .*facts\.txt: .*free the disk of this worker's machine"):
        parcel.unpack()


class Broken:
    """A worker that raises this."""

    def __init__(self, error):
        self.error = error

    def __call__(self, piece):
        raise self.error


def computed_by(worker):
    seat = Seat()
    seat.worker = worker
    return seat.compute([], Piece("toy", "base", 0))


@pytest.mark.parametrize(
    ("cause", "kind", "said"),
    [
        (ModelError("Expected a folder, got none."), ModelError, "Expected a folder, got none. (the worker on"),
        (ImportError("No module named 'peft'"), DataError, "the same packages"),
        (OSError(28, "No space left on device"), DataError, "No space left on device; install"),
    ],
    ids=["model", "versions", "disk"],
)
def test_what_a_worker_lacks_is_told_with_its_machine(cause, kind, said):
    with pytest.raises(kind) as told:
        computed_by(Broken(cause))
    assert said in str(told.value)
    assert str(told.value).endswith(f"(the worker on {platform.node()})")


def test_mistakes_are_told_whole():
    with pytest.raises(KeyError):
        computed_by(Broken(KeyError("x")))


def test_a_store_without_room(config):
    class Full(Dying):
        def put(self, value):
            raise ray.exceptions.OutOfDiskError("local disk is full")

    worker = ComparisonWorker.here(config, new_registry())
    with pytest.raises(DataError, match=r"room .* in Ray's object store, got: (.|\n)*--object-store-memory"):
        list(RayExecutor(workers=1)._computed(Full(0), worker, Groups([Piece("toy", "base", 0)])))


HUNGRY = """
import torch
from dataclasses import dataclass
from typing import ClassVar
from c3po_adaptive import hookimpl
from c3po_adaptive.optimizers import NoStep

@dataclass(frozen=True)
class Hungry(NoStep):
    '''Has memory for one question at a time.'''
    name: ClassVar[str] = "hungry"

    def optimize(self, problem):
        if len(problem.own) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return problem.own

@hookimpl
def register_optimizers():
    return [Hungry]
"""


@pytest.mark.slow
def test_a_worker_without_memory_halves_its_batch_and_no_other(config, tmp_path, cluster):
    """Its pieces are whole, and so are those of arms that have the memory, on the same workers."""
    (tmp_path / "hungry.py").write_text(HUNGRY)
    registry = new_registry()
    registry.load_file(tmp_path / "hungry.py")
    raw = config.model_dump(mode="json")
    raw["arms"]["hungry"] = {"optimizer": "hungry", "selector": FIXED}
    study = parse_config(raw)
    evaluate(study, tmp_path / "ray", registry=registry, executor=RayExecutor(cluster))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that three questions did not fit
        evaluate(study, tmp_path / "here", registry=registry)
    found = rows(tmp_path / "ray")
    same(rows(tmp_path / "here"), found)
    assert sum(arm == "hungry" for arm, _ in found) == 12


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingError, match=r"c3po_adaptive\[ray\]"):
        RayExecutor()


def test_no_workers_are_refused():
    with pytest.raises(SettingError, match="at least one worker"):
        RayExecutor(workers=0)
