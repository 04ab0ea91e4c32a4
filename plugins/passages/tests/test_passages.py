"""Files of passages: what is read, and what is refused; and the arms that come by name."""

import os
import subprocess
import sys

import pytest
from c3po_passages import Informed, Joint
from c3po_passages.passages import read_passages

from c3po_adaptive import DataError, default_registry


def test_they_come_by_the_entry_point():
    registry = default_registry()
    assert sorted(entry.name for entry in registry.table() if entry.plugin == "passages") == ["informed", "joint"]
    for kind in (Informed, Joint):
        assert registry.create("answerer", {"name": kind.name, "passages": "a.txt"}) == kind(passages="a.txt")


def test_solved_examples_and_plain_text_are_passages_too(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"question": "Is wood hard?", "choices": ["yes", "no"], "answer": 0}\n')
    (tmp_path / "b.txt").write_text("One\nfact.\n\n\nAnother.\n")
    assert [p.text for p in read_passages(tmp_path / "a.jsonl")] == ["Is wood hard? yes"]
    assert [p.text for p in read_passages(tmp_path / "b.txt")] == ["One fact.", "Another."]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", "", "at least one"),
        ("a.jsonl", '{"passage": "x"}\n', "line 1.*text, or question"),
        ("a.jsonl", '{"text": "x"}\n{"text": " "}\n', "line 2.*an empty one"),
        ("a.jsonl", "{\n", "line 1"),
        ("a.txt", "\n\n", "at least one"),
        ("a.jsonl", '{"question": "a?", "choices": ["b", "c"], "answer": null}\n', "answer"),
    ],
)
def test_a_file_without_passages_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read_passages(tmp_path / name)


def test_no_file_is_refused(tmp_path):
    for name in ("a.jsonl", "a.txt"):
        with pytest.raises(DataError, match=name):
            read_passages(tmp_path / name)


def test_a_pipe_that_nobody_writes_to_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code = f"from c3po_passages.passages import read_passages\nread_passages({str(tmp_path / 'pipe')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "DataError: Expected passages, but" in done.stderr and "a pipe or a device, and no file" in done.stderr
