"""Paths to read that are no files: a pipe that nobody writes to is refused, and not waited for."""

import os
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from c3po_adaptive.errors import C3POError
from c3po_adaptive.routing.trace_file import read_trace
from c3po_adaptive.storage.json_files import read_json
from c3po_adaptive.storage.picture_file import Picture
from c3po_adaptive.storage.tensors import load_tensors
from c3po_adaptive.study.study_config import read_yaml
from c3po_adaptive.tasks.question_files import load_questions

READERS = {
    "a picture": lambda path: Picture(path).read(),
    "a study": read_yaml,
    "JSON": lambda path: read_json(path, "mend it"),
    "tensors": lambda path: load_tensors(path, "mend them"),
    "a trace": read_trace,
    "questions": load_questions,
}


WAIT = 20  # seconds


@pytest.fixture
def pipe(tmp_path):
    """One that nobody writes to; who waits there all the same is given nothing, each time after a while."""
    path, over = tmp_path / "pipe", threading.Event()
    os.mkfifo(path)

    def free():
        while not over.wait(WAIT):
            with suppress(OSError):  # nobody reads
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    waiting = threading.Thread(target=free)
    waiting.start()
    yield path
    over.set()
    waiting.join()


@pytest.mark.parametrize("reader", READERS)
def test_nobody_waits(pipe, reader):
    with pytest.raises(C3POError, match=r"a pipe or a device, and no file|but there is none"):
        READERS[reader](pipe)


def test_what_a_shell_hands_over_is_read():
    code = "from c3po_adaptive.study.study_config import read_yaml\nprint(read_yaml('/dev/stdin'))"
    done = subprocess.run([sys.executable, "-c", code], input="a: 2", capture_output=True, text=True)
    assert done.stdout == "{'a': 2}\n", done.stderr
