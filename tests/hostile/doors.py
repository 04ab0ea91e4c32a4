"""What hostile tests share: a door is passed, or refused with the package's own error; what was on disk stays."""

import os
from contextlib import contextmanager

from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import C3POError

SMALL = {"name": "fixed", "n": 2, "experts": 5}
BASE = {"optimizer": "none", "selector": {"name": "fixed", "n": 0}}
LONG = 20_000
"""Characters of a message that is none to be read."""


def question(id, answer=0, text="Is it so?"):
    """A row of a question file."""
    return {"id": id, "task": "t", "question": text, "choices": ["yes", "no"], "answer": answer}


def on_disk(folder):
    """Every file below a folder, with its bytes; folders and pipes with none."""
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@contextmanager
def untouched(folder):
    """What is in the folder before the block is there after it, byte for byte."""
    before = on_disk(folder)
    yield
    after = on_disk(folder)
    changed = [p for p, content in before.items() if p not in after or after[p] != content]
    assert not changed, f"altered or deleted: {changed}"


def passed(call):
    """What a call gives, or its error of ours; any other error is the test's failure."""
    try:
        return call()
    except C3POError as error:
        found = error
    assert len(str(found)) < LONG, f"a message of {len(str(found)):,} characters"
    return found


def is_refused(call):
    """The call ends with an error of ours."""
    found = passed(call)
    assert isinstance(found, C3POError), f"expected an error, got {found!r:.200}"


def command(*args):
    """A command's exit status: it may work, or end with one message, but never with a traceback."""
    result = CliRunner().invoke(app, [str(a) for a in args])
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    assert "Traceback" not in result.output
    if result.exit_code:
        assert result.stderr.count("error: ") == 1, result.stderr
        assert len(result.stderr) < LONG, f"a message of {len(result.stderr):,} characters"
    return result.exit_code


class Killed(BaseException):
    """No code runs in a process that was killed: every later step raises it as well."""


def killed_at(patch, step):
    """Kill what follows before its step of that number that changes names on the disk."""
    done = []

    def stopping(original):
        def stepped(*args, **kwargs):
            if len(done) >= step:
                raise Killed
            done.append(args)
            return original(*args, **kwargs)

        return stepped

    for name in ("replace", "rename", "unlink", "rmdir", "mkdir"):
        patch.setattr(os, name, stopping(getattr(os, name)))
