"""Pieces on a Ray cluster: the same results, whatever dies; and how many workers there are."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from types import SimpleNamespace

import psutil
import pytest
import torch
from c3po_ray import RayExecutor
from c3po_ray.worker_payload import WorkerPayload
from c3po_ray.workers import PieceQueue
from routing.toys import questions
from study.configs import FIXED, parse_config, small_study

from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker
from c3po_adaptive.study.executor import HERE, Piece
from c3po_adaptive.study.reference_shards import build_set_by, build_store_by

pytestmark = pytest.mark.usefixtures("undrawn")

ray = pytest.importorskip("ray")


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (tmp_path / "facts.txt").write_text("Wood floats.\n\nStones sink.\n")
    raw = small_study(tmp_path).model_dump(mode="json")
    raw["arms"]["told"] = {"answerer": {"name": "informed", "passages": str(tmp_path / "facts.txt")}}
    raw["arms"]["told"]["optimizer"] = "none"
    return parse_config(raw)


@pytest.fixture(scope="module")
def cluster():
    """Ray's own test cluster: two nodes of one core each on this machine."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_AUTH_MODE"] = "disabled"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
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


def processes():
    """Processes of this machine in which a worker runs."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("RayWorker" in part for part in process.info["cmdline"] or []):
            found.append(process)
    return found


def killing(stop, count, killed):
    """Kill one worker after another by -9."""
    drawn = random.Random(count)
    while len(killed) < count and not stop.wait(drawn.uniform(0.1, 1.0)):
        if alive := processes():
            victim = drawn.choice(alive)
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.pid)


def run_with_kills(config, out, address, kills):
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=killing, args=(stop, kills, killed))
    killer.start()
    try:
        STUDY.run(config, out, executor=RayExecutor(address))
    finally:
        stop.set()
        killer.join()
    assert killed, "some worker was killed"


@pytest.mark.slow  # where machines are busy, Ray may take a node for dead
def test_two_nodes_give_what_one_process_gives_though_workers_are_killed(config, tmp_path, cluster):
    STUDY.run(config, tmp_path / "here")
    run_with_kills(config, tmp_path / "ray", cluster.address, kills=2)
    same(rows(tmp_path / "here"), rows(tmp_path / "ray"))


@pytest.mark.slow
def test_a_node_that_goes_down_is_not_waited_for(config, tmp_path, cluster):
    """There is no room for the worker that takes the place of its own."""
    lent, gone = cluster.add_node(num_cpus=1), []

    def going(items, label, total):
        for number, done in enumerate(items):
            while not number and len(processes()) < 3:
                time.sleep(0.1)  # from here on all three are given pieces
            if number == 2:
                cluster.remove_node(lent, allow_graceful=False)
                gone.append(lent)
            yield done

    STUDY.run(config, tmp_path / "here")
    STUDY.run(config, tmp_path / "ray", executor=RayExecutor(cluster.address, 3), progress=going)
    assert gone
    same(rows(tmp_path / "here"), rows(tmp_path / "ray"))


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
        STUDY.run(parse_config(raw), tmp_path / "ray", registry=registry, executor=RayExecutor(cluster.address))


@pytest.mark.slow
def test_a_set_is_built_and_warmed_by_workers(config, tmp_path, cluster):
    model, asked = load_moe_model(config.model), questions(150)
    load, executor = {"model": config.model}, RayExecutor(cluster.address)
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
    STUDY.run(config, tmp_path / "here")
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


def on(nodes, pieces=100, workers=None, on_gpus=False):
    """Workers for a cluster of these nodes, and what each asks for."""
    there = [{"Alive": True, "Resources": {"CPU": float(c), "GPU": float(g)}} for c, g in nodes]
    gone = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    return RayExecutor(workers=workers)._resources(
        SimpleNamespace(nodes=lambda: [*there, gone]), pieces, on_gpus=on_gpus
    )


def room(nodes, each):
    """How many such workers the nodes have room for at once, in ten-thousandths, which Ray rounds to."""
    asked = [round(10_000 * each.get(kind, 0)) for kind in ("num_cpus", "num_gpus")]
    return sum(min(10_000 * has // wants for has, wants in zip(n, asked, strict=True) if wants) for n in nodes)


@pytest.mark.parametrize(
    ("cores", "workers", "share"),
    [
        ([4], 2, 2),
        ([1, 1], 1, 1),
        ([4, 4, 4], 2, 4),
        ([4, 4, 4], 4, 2),
        ([2], 4, 1 / 2),
        ([1, 1], 3, 1 / 2),
        ([1], 6, 0.1666),
        ([2, 1], 21, 0.1428),
        ([8, 1], 3, 2),
        ([8, 1], None, 1),
    ],
)
def test_workers_ask_for_what_a_node_has(cores, workers, share):
    """One that asks for more than that is never begun."""
    nodes = [(c, 0) for c in cores]
    count, each = on(nodes, workers=workers)
    assert (count, each) == (workers or sum(cores), {"num_cpus": share})
    assert room(nodes, each) >= count


@pytest.mark.parametrize(
    ("nodes", "workers", "each"),
    [
        ([(64, 0), (4, 4)], None, {"num_cpus": 1, "num_gpus": 1}),
        ([(64, 0), (4, 4)], 8, {"num_cpus": 1 / 2, "num_gpus": 1 / 2}),
        ([(8, 1)], 6, {"num_cpus": 1, "num_gpus": 0.1666}),
        ([(64, 8), (2, 2)], None, {"num_cpus": 1, "num_gpus": 1}),
        ([(64, 4), (2, 4)], None, {"num_cpus": 1 / 2, "num_gpus": 1}),
        ([(32, 4), (32, 4)], 4, {"num_cpus": 16, "num_gpus": 1}),
        ([(4, 0), (0, 4)], None, {"num_cpus": 1}),
    ],
)
def test_cores_and_gpus_are_asked_for_on_one_node(nodes, workers, each):
    count, asked = on(nodes, workers=workers, on_gpus=True)
    assert asked == each
    assert room(nodes, asked) >= count == (workers or sum(g for c, g in nodes if c) or sum(c for c, _ in nodes))


def test_a_study_on_the_cpu_holds_no_gpu():
    assert on([(4, 4)]) == (4, {"num_cpus": 1})


def test_no_more_workers_than_pieces():
    assert on([(64, 0)], pieces=3) == (3, {"num_cpus": 21})
    assert on([(64, 0)], pieces=3, workers=8) == (3, {"num_cpus": 21})


def test_a_driver_loads_no_model_onto_a_device_that_it_may_lack(config, monkeypatch):
    devices = []
    monkeypatch.setattr("c3po_adaptive.study.worker.load_model", lambda config: devices.append(config.device))
    there = config.model_copy(update={"device": "cuda"})
    for executor in (RayExecutor(), HERE):
        worker = ComparisonWorker.here(there, new_registry(), executor=executor)
        _ = worker.model
        assert worker.config.device == "cuda", "for the workers, and in what the run is claimed with"
    assert devices == [None, "cuda"]


@pytest.mark.slow
def test_other_inputs_are_refused_in_the_errors_own_words(config, tmp_path, cluster):
    worker = ComparisonWorker.here(config, new_registry())
    worker.inputs = worker._inputs | {"model": "another"}
    with pytest.raises(DataError, match=r"another model .*\(the worker on "):
        list(RayExecutor(cluster.address).map(worker, [Piece("toy", "base", 0)]))


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


class Connected:
    """Ray, as far as connecting goes."""

    exceptions = ray.exceptions

    def __init__(self, there=""):
        self.there, self.begun, self.ended = there, [], 0

    def is_initialized(self):
        return bool(self.there)

    def get_runtime_context(self):
        return SimpleNamespace(gcs_address=self.there)

    def init(self, address, **options):
        self.begun.append(address)

    def shutdown(self):
        self.ended += 1


@pytest.fixture
def connected(config, monkeypatch):
    """Connects, and computes nothing, to one cluster or another."""

    def mapped(executor, there=""):
        made = Connected(there)
        monkeypatch.setattr("c3po_ray.executor._ray", lambda: made)
        monkeypatch.setattr(RayExecutor, "_computed", lambda *given: iter(()))
        list(executor.map(ComparisonWorker.here(config, new_registry()), [Piece("toy", "base", 0)]))
        return made.begun, made.ended

    return mapped


def test_without_an_address_a_cluster_is_started(connected):
    """Ray by itself would take that of the environment, or any that runs on this machine."""
    assert connected(RayExecutor()) == (["local"], 1)
    assert connected(RayExecutor("auto")) == (["auto"], 1)


def test_a_connection_that_was_there_is_taken_and_stays(connected):
    for address in (None, "auto", "10.0.0.1:6379"):
        assert connected(RayExecutor(address), "10.0.0.1:6379") == ([], 0)
    with pytest.raises(SettingError, match=r"or to 10\.0\.0\.2:6379, got one connected to 10\.0\.0\.1:6379; leave"):
        connected(RayExecutor("10.0.0.2:6379"), "10.0.0.1:6379")


def test_a_client_is_connected_to_the_cluster_by_another_address_than_its_own(connected, monkeypatch):
    monkeypatch.setattr("ray.util.client.ray.is_connected", lambda: True)
    assert connected(RayExecutor("ray://10.0.0.1:10001"), "10.0.0.1:6379") == ([], 0)
    with pytest.raises(SettingError, match=r"or to 10\.0\.0\.2:6379"):
        connected(RayExecutor("10.0.0.2:6379"), "10.0.0.1:6379")


def test_a_driver_of_a_cluster_is_no_client_of_it(connected):
    with pytest.raises(SettingError, match=r"or to ray://10\.0\.0\.1:10001, got one connected to 10\.0\.0\.1:6379"):
        connected(RayExecutor("ray://10.0.0.1:10001"), "10.0.0.1:6379")


def test_nothing_to_do_needs_no_cluster(config):
    assert list(RayExecutor("nonsense").map(ComparisonWorker.here(config, new_registry()), [])) == []


def test_a_store_without_room(config):
    class Full:
        exceptions = ray.exceptions

        def nodes(self):
            return [{"Alive": True, "Resources": {"CPU": 1.0}}]

        def put(self, value):
            raise ray.exceptions.OutOfDiskError("local disk is full")

    worker = ComparisonWorker.here(config, new_registry())
    with pytest.raises(DataError, match=r"room .* in Ray's object store, got: (.|\n)*--object-store-memory"):
        list(RayExecutor(workers=1)._computed(Full(), WorkerPayload.of(worker), PieceQueue([Piece("toy", "base", 0)])))


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
    STUDY.run(study, tmp_path / "ray", registry=registry, executor=RayExecutor(cluster.address))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that three questions did not fit
        STUDY.run(study, tmp_path / "here", registry=registry)
    found = rows(tmp_path / "ray")
    same(rows(tmp_path / "here"), found)
    assert sum(arm == "hungry" for arm, _ in found) == 12


def test_the_engine_is_found_by_its_name():
    assert new_registry().other("engine", "ray") is RayExecutor


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingError, match=r"c3po_adaptive\[ray\]"):
        RayExecutor()


def test_no_workers_are_refused():
    with pytest.raises(SettingError, match="at least one worker"):
        RayExecutor(workers=0)
