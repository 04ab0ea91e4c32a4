"""Workers that find no room, or never answer again: others compute what is left, and errors are told in our words."""

import platform
from types import SimpleNamespace

import pytest
from c3po_ray import workers
from c3po_ray.workers import RETRIES, PieceQueue, RayWorker, RayWorkers

from c3po_adaptive.errors import DataError, ModelError
from c3po_adaptive.study.executor import Done, Piece

ray = pytest.importorskip("ray")
A, B, C, D = (Piece("toy", "a", batch) for batch in range(4))


class Pretend:
    """Ray, as far as workers use it: a call is carried out when it is asked for; a worker is a number.

    Attributes:
        fails: the error that a worker's call ends with, by its number and the piece (None: it starts); None: none.
        outside: numbers of workers that find no room.
        silent: whether a worker never answers about a piece.
        answer: what a worker gives for a piece.
    """

    exceptions = ray.exceptions

    def __init__(
        self,
        fails=lambda number, piece: None,
        outside=(),
        silent=lambda number, piece: False,
        answer=lambda piece: Done(piece, ()),
    ):
        self.fails, self.outside, self.silent, self.answer = fails, outside, silent, answer
        self.made, self.killed, self.computed = 0, [], []

    def remote(self, **options):
        assert options == {"num_cpus": 1, "max_restarts": -1, "max_task_retries": RETRIES}, "Ray restarts, and retries"
        return lambda kind: SimpleNamespace(remote=self.begin)

    def begin(self):
        number, self.made = self.made, self.made + 1
        called = lambda payload, piece=None: Call(number=number, piece=piece)  # noqa: E731
        methods = {"start": called, "compute": called}
        return SimpleNamespace(number=number, **{name: SimpleNamespace(remote=call) for name, call in methods.items()})

    def wait(self, calls, num_returns, timeout):
        assert timeout
        answered = [c for c in calls if c.number not in self.outside and not self.silent(c.number, c.piece)][:1]
        return answered, [c for c in calls if c not in answered]

    def get(self, call):
        if error := self.fails(call.number, call.piece):
            raise error
        if call.piece is None:
            return None
        self.computed.append(call.piece)
        return self.answer(call.piece)

    def kill(self, actor):
        self.killed.append(actor.number)

    def available_resources(self):
        return {"CPU": 0.5}


class Call(SimpleNamespace):
    """Nothing else is equal to it."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def found_by(pretended, pieces, workers=1):
    """All that comes back, in order."""
    made = RayWorkers(pretended, "payload", workers, {"num_cpus": 1})
    found = [done.piece for done in made.computed(PieceQueue(pieces))]
    made.dismiss()
    assert pretended.killed == [*range(workers)], "others may wait for their cores"
    return found


def test_each_piece_is_computed_once():
    pretended = Pretend()
    assert found_by(pretended, [A, B, C, D]) == pretended.computed == [A, B, C, D]


def test_pieces_are_given_to_those_who_found_room():
    assert found_by(Pretend(outside=(1,)), [A, B, C, D], workers=2) == [A, B, C, D]


def test_a_machine_that_is_gone_is_not_waited_for():
    """Ray finds no room to restart its worker: another, that has nothing else to do, computes its piece."""
    pretended = Pretend(silent=lambda number, piece: number == 0 and piece is not None)
    assert found_by(pretended, [A, B, C, D], workers=2) == [B, C, D, A]


def test_an_answer_that_comes_twice_counts_once():
    late = lambda number, piece: number == 0 and piece is not None and len(pretended.computed) < 4  # noqa: E731
    pretended = Pretend(silent=late)
    assert sorted(found_by(pretended, [A, B, C, D], workers=3), key=lambda piece: piece.batch) == [A, B, C, D]


def test_what_is_waited_for_is_told(monkeypatch):
    pretended, waits = Pretend(outside=[0, 1]), []
    wait = pretended.wait

    def later(*given, **options):
        waits.append(options["timeout"])
        if len(waits) == 2:
            pretended.outside = ()
        return wait(*given, **options)

    pretended.wait = later
    monkeypatch.setattr(workers, "PATIENCE", 7.0)
    with pytest.warns(UserWarning, match=r"each of 2 waits for 1 CPU \(0\.5 free in all\); end what holds them"):
        assert {*found_by(pretended, [A, B], workers=2)} == {A, B}
    assert waits[0] == 7.0


def test_long_pieces_are_waited_for_in_silence():
    pretended, waits = Pretend(), []
    wait = pretended.wait
    pretended.wait = lambda *given, **options: (
        waits.append(1) or (([], given[0]) if len(waits) == 2 else wait(*given, **options))
    )
    assert found_by(pretended, [A]) == [A]
    assert len(waits) == 3


LOST = [
    ray.exceptions.RayActorError(),
    ray.exceptions.OutOfMemoryError("the node runs low on memory"),
    ray.exceptions.NodeDiedError("its node died"),
    ray.exceptions.ActorUnavailableError("out of reach", b"0" * 16),
    ray.exceptions.RayTaskError("start", "", ray.exceptions.OutOfDiskError("full")).as_instanceof_cause(),
]


@pytest.mark.parametrize("error", LOST)
@pytest.mark.parametrize(
    ("at", "said"),
    [(B, r"a worker that survives Piece\(dataset='toy', arm='a', batch=1"), (None, "workers that start")],
)
def test_what_ray_gives_up_is_told_in_our_words_with_the_piece(error, at, said):
    with pytest.raises(DataError, match=said):
        found_by(Pretend(lambda number, piece: error if piece == at else None), [A, B])


@pytest.mark.parametrize("error", LOST)
def test_a_piece_of_which_one_machine_dies_is_computed_by_another(error):
    pretended = Pretend(lambda number, piece: error if number == 0 and piece == A else None)
    assert {*found_by(pretended, [A, B, C, D], workers=2)} == {A, B, C, D}
    assert len(pretended.computed) == 4


@pytest.mark.parametrize("error", LOST)
def test_a_worker_that_cannot_start_leaves_the_work_to_others(error):
    pretended = Pretend(lambda number, piece: error if number == 0 and piece is None else None)
    assert {*found_by(pretended, [A, B], workers=2)} == {A, B}


def test_one_that_helps_and_dies_of_it_does_not_end_the_run():
    """The first is slow at its piece; the second, idle, computes it too, dies, and the first answers after all."""
    slow = lambda number, piece: number == 0 and piece == A and not died  # noqa: E731
    died = []

    def fails(number, piece):
        if number == 1 and piece == A:
            died.append(piece)
            return LOST[0]
        return None

    assert {*found_by(Pretend(fails, silent=slow), [A, B], workers=2)} == {A, B}
    assert died == [A]


def test_a_piece_of_which_all_die_ends_the_run():
    tried = []

    def fails(number, piece):
        if piece == A:
            tried.append(number)
            return LOST[1]
        return None

    with pytest.raises(DataError, match="a worker that survives"):
        found_by(Pretend(fails), [A, B, C, D], workers=8)
    assert len(tried) == len({*tried}) == RETRIES, (
        "one of many machines after the other, but not all of a large cluster"
    )


@pytest.mark.parametrize("cause", [ModelError("Expected a folder."), KeyError("x")], ids=["ours", "a mistake"])
def test_what_a_worker_says_ends_the_run(cause):
    told = ray.exceptions.RayTaskError("compute", "", cause).as_instanceof_cause()
    with pytest.raises(type(cause)):
        found_by(Pretend(lambda number, piece: told if piece == A else None), [A, B])


def test_an_arm_that_fails_is_left_out_from_there_on():
    bad, good = ([Piece("toy", arm, batch) for batch in range(30)] for arm in ("bad", "good"))
    pretended = Pretend(answer=lambda piece: Done(piece, (), "broken" if piece.arm == "bad" else ""))
    found_by(pretended, [*bad, *good], workers=2)
    assert sum(piece.arm == "good" for piece in pretended.computed) == 30
    assert sum(piece.arm == "bad" for piece in pretended.computed) <= 2


class TestQueue:
    def test_pieces_of_an_arm_stay_together(self):
        pieces = [Piece("toy", arm, batch) for arm in ("a", "b", "c") for batch in range(3)]
        queue = PieceQueue(pieces)
        order = [queue.next_for(worker) for worker in (0, 1, 0, 0, 1, 0, 0, 0, 1)]
        assert "".join(p.arm for p in order) == "abaabcccb"
        assert queue.next_for(0) is None
        assert {*order} == {*pieces}
        assert not queue

    def test_the_last_group_is_shared(self):
        queue = PieceQueue([A, B, C, D])
        assert [queue.next_for(worker) for worker in (0, 1, 0, 1)] == [A, B, C, D]


class Broken:
    """A worker that raises this."""

    def __init__(self, error):
        self.error = error

    def __call__(self, piece):
        raise self.error


def computed_by(worker):
    actor = RayWorker()
    actor.worker = worker
    return actor.compute([], A)


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
