"""One writer for a folder; a dead one lets go."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from c3po_adaptive.errors import DataError
from c3po_adaptive.storage.lock import OWNER, held, in_turn

HOLD = """
import sys, time
from c3po_adaptive.storage.lock import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_is_refused_with_who_holds_it(tmp_path, holder):
    said = rf"Expected .*run for this process alone, but process {holder.pid} on .* is writing to it; wait"
    with pytest.raises(DataError, match=said), held(tmp_path / "run"):
        pass


def test_a_dead_owners_lock_is_taken_over(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    time.sleep(0.1)
    with held(tmp_path / "run"):
        assert (tmp_path / "run" / OWNER).read_text().startswith(f"process {os.getpid()} ")
    with held(tmp_path / "run"):
        pass


def test_an_error_lets_go(tmp_path):
    def broken():
        with held(tmp_path / "run"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    with held(tmp_path / "run"):
        pass


def test_a_place_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Expected a folder to write to"), held(tmp_path / "file"):
        pass


def test_in_turn_waits_for_the_one_before(tmp_path):
    order, begun = [], threading.Event()

    def second():
        begun.set()
        with in_turn(tmp_path / "new" / "a.lock"):
            order.append("second")

    with in_turn(tmp_path / "new" / "a.lock"):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert begun.wait(10)
        time.sleep(0.2)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_a_lock_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"a folder to write to, .*file"), in_turn(tmp_path / "file" / "a.lock"):
        pass
