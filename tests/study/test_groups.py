"""Pieces that wait: those of an arm stay together, and none is lost."""

from c3po_adaptive.study.executor import Piece
from c3po_adaptive.study.groups import Groups


def test_pieces_of_an_arm_stay_together():
    pieces = [Piece("toy", arm, batch) for arm in ("a", "b", "c") for batch in range(3)]
    groups = Groups(pieces)
    first = [groups.next_for(0), groups.next_for(1)]
    assert [p.arm for p in first] == ["a", "b"]
    order = [groups.next_for(worker) for worker in (0, 0, 1, 0, 0, 0, 1)]
    assert [p.arm for p in order] == ["a", "a", "b", "c", "c", "c", "b"]
    assert groups.next_for(0) is None
    assert {*first, *order} == {*pieces}


def test_the_last_group_is_shared():
    groups = Groups([Piece("toy", "a", batch) for batch in range(4)])
    assert [groups.next_for(worker).batch for worker in (0, 1, 0, 1)] == [0, 1, 2, 3]


def test_pieces_that_come_back_are_the_next_ones():
    groups = Groups([Piece("toy", "a", batch) for batch in range(3)])
    groups.give_back([groups.next_for(0), groups.next_for(0)])
    assert len(groups) == 3
    assert [groups.next_for(1).batch for _ in range(3)] == [0, 1, 2]


def test_an_arm_that_failed_is_left_out_though_its_pieces_come_back():
    groups = Groups([Piece(data, arm, batch) for data in ("x", "y") for arm in ("a", "b") for batch in range(2)])
    out = groups.next_for(0)
    groups.leave_out("a")
    groups.give_back([out])
    assert [(p.dataset, p.arm) for p in iter(lambda: groups.next_for(0), None)] == [("x", "b")] * 2 + [("y", "b")] * 2
    assert not groups
