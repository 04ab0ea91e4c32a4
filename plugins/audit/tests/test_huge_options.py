"""An audit with numbers that no float or no tensor holds: refused by name, before anything is written."""

import json

import pytest
from c3po_audit import audit
from hostile.doors import question
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import SettingError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.tasks import questions
from c3po_adaptive.testing import write_tiny_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, and questions about nothing."""
    folder = tmp_path_factory.mktemp("huge")
    write_tiny_checkpoint(folder / "model", "qwen2_moe")
    rows = [question(f"q{i}", i % 2) for i in range(12)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("option", "value", "status", "said"),
    [
        ("--seed", str(10**30), 1, "an audit's seed from 0 to 2^63 - 1"),
        ("--minutes", "-1", 2, "expected minutes from 0 on, got -1"),
        ("--minutes", "nan", 2, "expected minutes from 0 on, got nan"),
    ],
)
def test_on_the_command_line(place, tmp_path, option, value, status, said):
    told = (place / "model", place / "questions.jsonl", "--out", tmp_path / "out", option, value)
    found = CliRunner().invoke(app, ["audit", *map(str, told)])
    assert found.exit_code == status and isinstance(found.exception, SystemExit), found.exception
    assert said in found.stderr
    assert not list(tmp_path.iterdir())


def test_a_rate_that_no_float_holds(place):
    with pytest.raises(SettingError, match="different learning rates above zero"):
        audit(load_moe_model(place / "model"), questions(str(place / "questions.jsonl")), rates=[10**400])
