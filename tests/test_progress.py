"""Progress hands on what it gets, one display at a time, and stops when the time is over."""

import pytest

from c3po_adaptive import progress
from c3po_adaptive.progress import Paused, bar, limited, silent, stages


@pytest.fixture
def terminal(monkeypatch):
    """Standard error as a terminal, for rich."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")


def test_hands_on_every_item(terminal):
    for shown in (silent, bar, limited(bar, 60)):
        assert list(shown(range(3), "three")) == [0, 1, 2]
        assert list(shown(iter("ab"), lambda item: f"done {item}", 2)) == ["a", "b"]


def test_bars_inside_one_another_share_the_display(terminal, capsys):
    seen = []
    for outer in bar(range(2), "outer"):
        for inner in bar(range(2), f"inner {outer}"):
            (shown,) = progress._shown
            seen.append([task.description for task in shown.tasks])
            assert inner in (0, 1)
    assert seen == [["outer", "inner 0"]] * 2 + [["outer", "inner 1"]] * 2
    assert progress._shown == []
    assert "outer" in capsys.readouterr().err


def test_the_label_says_what_was_done_last(terminal):
    for _ in bar("xy", lambda item: f"done {item}", 2):
        (shown,) = progress._shown
    assert progress._shown == []
    assert shown.tasks == []


def test_an_error_takes_the_display_down(terminal):
    def broken():
        for _ in bar(range(3), "three"):
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        broken()
    assert progress._shown == []


def test_nothing_is_shown_in_a_pipe(capsys):
    assert list(bar(range(3), "three")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_the_time_is_over_only_if_there_is_more():
    over = limited(silent, 0)
    assert list(over(["last"], "one")) == ["last"]
    assert list(over(iter(["only"]), "unsized", 1)) == ["only"]
    taken = []
    with pytest.raises(Paused):
        taken.extend(over(["first", "second"], "two"))
    assert taken == ["first"], "what was begun is finished"


def test_stages_of_work_that_is_no_loop(terminal, capsys):
    seen = []
    with stages(bar, "first", "second") as next_stage:
        for _ in range(2):
            next_stage()
            (shown,) = progress._shown
            seen.append([task.description for task in shown.tasks])
            for _ in bar(range(1), "inside"):
                assert [task.description for task in shown.tasks][1:] == ["inside"]
    assert seen == [["first"], ["second"]]
    assert progress._shown == []
    assert "first" in capsys.readouterr().err


def test_stages_that_fail_take_the_display_down(terminal):
    def broken():
        with stages(bar, "first", "second") as next_stage:
            next_stage()
            raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        broken()
    assert progress._shown == []
