"""The script that runs the suite as other processors compute: which settings, what pytest is given, what it says."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("on_other_cpus.sh")
EVERY = ["oldest", "oldest-two", "avx2", "avx2-two"]
PYTHON = """#!/bin/sh
echo "$ATEN_CPU_CAPABILITY on $OMP_NUM_THREADS: $*"
[ "$ATEN_CPU_CAPABILITY" != default ]
"""


@pytest.fixture
def run(tmp_path):
    """In a copy of the tree, with a Python that says what it got, and fails on the oldest instructions."""
    script = tmp_path / "tests" / SCRIPT.name
    script.parent.mkdir()
    script.write_bytes(SCRIPT.read_bytes())
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    none = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}

    def run(*args):
        done = subprocess.run(
            ["bash", script, *args], capture_output=True, text=True, env=none | {"PYTHON": str(python)}
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    return run


def test_without_a_name_all_settings_and_one_that_fails_fails_all(run):
    code, lines = run()
    assert code == 1
    assert [line.partition(":")[0] for line in lines[-len(EVERY) :]] == EVERY, "a line each at the end"
    assert lines[-4:-1] == [
        "oldest: FAILED, default on 1: -m pytest",
        "oldest-two: FAILED, default on 2: -m pytest",
        "avx2: passed, avx2 on 1: -m pytest",
    ]


def test_those_that_are_named_and_the_rest_is_pytests(run):
    assert run("avx2", "avx2-two", "-k", "oldest") == (
        0,
        [
            "avx2 on 1: -m pytest -k oldest",
            "avx2 on 2: -m pytest -k oldest",
            "avx2: passed, avx2 on 1: -m pytest -k oldest",
            "avx2-two: passed, avx2 on 2: -m pytest -k oldest",
        ],
    )
    assert run("oldest")[0] == 1
