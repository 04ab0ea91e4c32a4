"""Workers that die, or never find room: others compute what is left, and only what kills them ends a run."""

import platform
from types import SimpleNamespace

import pytest

from c3po_adaptive.errors import DataError, ModelError
from c3po_adaptive.study import ray_crew
from c3po_adaptive.study.executor import Done, Piece
from c3po_adaptive.study.groups import Groups
from c3po_adaptive.study.ray_crew import AHEAD, LOSSES, Crew, Seat

ray = pytest.importorskip("ray")
DEAD = ray.exceptions.RayActorError
A, B, C, D = (Piece("toy", "a", batch) for batch in range(4))


class Pretend:
    """Ray, as far as a crew uses it: a call is carried out when it is asked for.

    Attributes:
        strikes: the error that a worker dies of, by its number and the piece (None: sitting down); None: it lives.
        outside: numbers of workers that find no room.
        answer: what a worker gives for a piece.
    """

    exceptions = ray.exceptions

    def __init__(self, strikes=lambda number, piece: None, outside=(), answer=lambda piece: Done(piece, ())):
        self.strikes, self.outside, self.answer = strikes, outside, answer
        self.made, self.dead, self.killed, self.computed = 0, set(), [], []

    def remote(self, **options):
        assert options == {"num_cpus": 1}
        return lambda kind: SimpleNamespace(remote=self.begin)

    def begin(self):
        number, self.made = self.made, self.made + 1
        asked = {
            "sit": lambda parcel: SimpleNamespace(number=number, piece=None),
            "compute": lambda piece: SimpleNamespace(number=number, piece=piece),
        }
        return SimpleNamespace(
            number=number, **{name: SimpleNamespace(remote=Reference.of(call)) for name, call in asked.items()}
        )

    def wait(self, references, num_returns, timeout):
        assert timeout
        ready = [r for r in references if r.number not in self.outside][:1]
        return ready, [r for r in references if r not in ready]

    def get(self, called):
        if called.number in self.dead:
            raise DEAD()
        if error := self.strikes(called.number, called.piece):
            self.dead.add(called.number)
            raise error
        if called.piece is None:
            return None
        self.computed.append(called.piece)
        return self.answer(called.piece)

    def kill(self, seat):
        self.killed.append(seat.number)

    def available_resources(self):
        return {"CPU": 0.5}


class Reference(SimpleNamespace):
    """Of a call: nothing else is equal to it."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @classmethod
    def of(cls, call):
        return lambda given: cls(**vars(call(given)))


def found_by(pretended, pieces, workers=1):
    """All that comes back, in order."""
    groups, crew = Groups(pieces), Crew(pretended, "parcel", workers, {"num_cpus": 1})
    found = []
    while groups or crew.at_work:
        if done := crew.next(groups):
            found.append(done.piece)
    crew.dismiss()
    return found


def dying(piece, times, error=DEAD):
    """A worker dies at the piece, so often."""
    left = [error() for _ in range(times)]
    return lambda number, at: left.pop() if at == piece and left else None


def test_a_worker_that_dies_is_replaced_and_each_piece_is_computed_once():
    pretended = Pretend(dying(B, LOSSES))
    assert found_by(pretended, [A, B, C, D]) == [A, B, C, D]
    assert pretended.made == 1 + LOSSES
    assert {*pretended.killed} == {*range(pretended.made)}, "the last one, too: others may wait for its cores"


@pytest.mark.parametrize("fatal", [A, B, D])
def test_a_piece_that_kills_every_worker_ends_the_run_and_is_the_one_that_is_named(fatal):
    """Those that waited behind it died with it, each time; they are not to blame."""
    with pytest.raises(DataError, match=rf"survives Piece\(dataset='toy', arm='a', batch={fatal.batch}, "):
        found_by(Pretend(dying(fatal, LOSSES + 1)), [A, B, C, D])


def test_pieces_are_shared_among_those_who_sit():
    assert sorted(found_by(Pretend(outside=(1,)), [A, B, C, D], workers=2), key=lambda p: p.batch) == [A, B, C, D]


def test_a_machine_that_is_gone_is_not_waited_for():
    """No worker that takes the place of one that died finds room: the other computes all."""
    pretended = Pretend(lambda number, piece: DEAD() if number == 0 and piece else None, outside=range(2, 9))
    assert {*found_by(pretended, [A, B, C, D], workers=2)} == {A, B, C, D}
    assert pretended.made == 3


def test_one_piece_is_left_for_a_worker_that_is_to_come():
    """Its place is not taken ahead by another, which is at one already."""
    crew, groups = Crew(Pretend(outside=(1,)), "parcel", 2, {"num_cpus": 1}), Groups([A, B])
    assert crew.next(groups) is None
    assert [[call.piece for call in hired.calls] for hired in crew.hired] == [[A], [None]]


def test_what_is_waited_for_is_told(monkeypatch):
    pretended, waits = Pretend(outside=[0, 1]), []
    wait = pretended.wait

    def later(*given, **options):
        waits.append(options["timeout"])
        if len(waits) == 2:
            pretended.outside = ()
        return wait(*given, **options)

    pretended.wait = later
    monkeypatch.setattr(ray_crew, "PATIENCE", 7.0)
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
    lambda: ray.exceptions.OutOfMemoryError("the node runs low on memory"),
    lambda: ray.exceptions.NodeDiedError("its node died"),
    lambda: ray.exceptions.ObjectLostError("0" * 56, None, ""),
    lambda: ray.exceptions.ActorUnavailableError("out of reach", b"0" * 16),
    lambda: ray.exceptions.RayTaskError("sit", "", ray.exceptions.OutOfDiskError("full")).as_instanceof_cause(),
]


@pytest.mark.parametrize("error", LOST)
def test_whatever_ray_loses_is_computed_again_and_told_in_our_words_if_it_stays(error):
    assert found_by(Pretend(dying(B, 1, error)), [A, B]) == [A, B]
    with pytest.raises(DataError, match="a worker that survives Piece"):
        found_by(Pretend(dying(B, LOSSES + 1, error)), [A, B])


def test_workers_that_never_sit_end_the_run_one_after_the_other():
    with pytest.raises(DataError, match="Expected workers that start, got"):
        found_by(Pretend(dying(None, LOSSES + 1)), [A])
    assert found_by(Pretend(dying(None, LOSSES)), [A]) == [A]


@pytest.mark.parametrize("cause", [ModelError("Expected a folder."), KeyError("x")], ids=["ours", "a mistake"])
def test_what_a_worker_says_ends_the_run_at_once(cause):
    told = ray.exceptions.RayTaskError("compute", "", cause).as_instanceof_cause()
    pretended = Pretend(lambda number, piece: told if piece == A else None)
    with pytest.raises(type(cause)):
        found_by(pretended, [A, B])
    assert pretended.made == 1


def test_an_arm_that_fails_is_left_out_from_there_on():
    bad, good = ([Piece("toy", arm, batch) for batch in range(30)] for arm in ("bad", "good"))
    pretended = Pretend(answer=lambda piece: Done(piece, (), "broken" if piece.arm == "bad" else ""))
    found_by(pretended, [*bad, *good], workers=2)
    assert sum(piece.arm == "good" for piece in pretended.computed) == 30
    assert sum(piece.arm == "bad" for piece in pretended.computed) <= AHEAD


class Broken:
    """A worker that raises this."""

    def __init__(self, error):
        self.error = error

    def __call__(self, piece):
        raise self.error


def computed_by(worker):
    seat = Seat()
    seat.worker = worker
    return seat.compute(A)


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
