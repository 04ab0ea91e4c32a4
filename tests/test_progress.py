"""Progress hands on what it gets, one display at a time, and stops when the time is over."""

import time

import pytest

from c3po_adaptive import progress
from c3po_adaptive.progress import Paused, bar, limited, silent, working


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


def test_labels_are_no_markup(terminal, capsys):
    with working("loading a[/x]"):
        progress._shown[-1].refresh()
        for _ in bar([1], lambda item: f"[red]arm[/b] {item}"):
            progress._shown[-1].refresh()
    shown = capsys.readouterr().err
    assert "loading a[/x]" in shown and "[red]arm[/b] 1" in shown


def test_an_error_takes_the_display_down(terminal):
    def broken():
        for _ in bar(range(3), "three"):
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        broken()
    assert progress._shown == []


def test_short_work_shows_nothing_in_a_pipe(capsys):
    assert list(bar(range(3), "three")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_each_new_label_is_a_line_in_a_pipe(capsys):
    assert list(bar("aab", lambda item: f"arm {item}", 3)) == ["a", "a", "b"]
    assert capsys.readouterr().err.splitlines() == ["0:00 arm a (1 of 3)", "0:00 arm b (3 of 3)"]


def test_long_work_is_a_line_now_and_then_in_a_pipe(capsys, monkeypatch):
    """Even within one item, and of bars inside one another in one."""
    monkeypatch.setattr(progress, "EVERY", 0.05)
    with working("loading"):
        for _ in bar(range(2), "outer"):
            for _ in bar(["only"], "inner"):
                time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert "0:00 loading, outer (0 of 2), inner (0 of 1)" in lines
    assert "0:00 loading, outer (1 of 2), inner (0 of 1)" in lines
    assert progress._shown == []


def test_the_time_is_over_only_if_there_is_more():
    over = limited(silent, 0)
    assert list(over(["last"], "one")) == ["last"]
    assert list(over(iter(["only"]), "unsized", 1)) == ["only"]
    taken = []
    with pytest.raises(Paused):
        taken.extend(over(["first", "second"], "two"))
    assert taken == ["first"], "what was begun is finished"
