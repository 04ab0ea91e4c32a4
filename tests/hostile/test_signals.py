"""A command that is asked to end (SIGTERM, as schedulers do) ends as Ctrl-C does, and can be gone on with."""

import os
import signal
import threading

import pytest
import torch
import typer

from c3po_adaptive.cli.terminal import INTERRUPTED, TERMINATED, clear_errors
from c3po_adaptive.storage.checksummed import save_shard


def ended(number, folder=None):
    """The exit status of a command that gets a signal."""
    with pytest.raises(typer.Exit) as caught:
        command(number, folder)
    return caught.value.exit_code


@clear_errors()
def command(number, folder):
    if folder is not None:
        save_shard({"some": torch.zeros(1)}, folder, "set", 0)
    os.kill(os.getpid(), number)
    threading.Event().wait(5)


def test_sigterm_ends_a_command_with_its_status_and_a_message(capsys, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    assert ended(signal.SIGTERM, tmp_path) == TERMINATED == 143
    assert "the same command resumes from here" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c(capsys):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        assert ended(signal.SIGINT) == INTERRUPTED == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "the same command begins anew" in capsys.readouterr().err, "nothing is saved"


def test_commands_run_in_other_threads_too():
    done = []

    def command():
        with clear_errors():
            done.append(True)

    thread = threading.Thread(target=command)
    thread.start()
    thread.join()
    assert done
