"""A fault with numbers that no float, no tensor or no int of Python holds: refused by name, and nothing is written."""

import json

import pytest
import torch
from c3po_faults.fault_files import FAULT, write_faulty
from c3po_faults.faults import Fault
from hostile.doors import command, question
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.testing import write_tiny_checkpoint

DIGITS = "9" * 5000  # more than Python reads


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, and questions about nothing."""
    folder = tmp_path_factory.mktemp("huge")
    write_tiny_checkpoint(folder / "model", "qwen2_moe")
    rows = [question(f"q{i}", i % 2) for i in range(12)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("fault MODEL --out OUT --kind noise --layers all --dose 1e39", "fault.dose to be a finite number >= 0 and <="),
        (f"fault MODEL --out OUT --kind noise --layers {DIGITS}", "layers of a fault as last-N"),
        (f"fault MODEL --out OUT --kind noise --layers 1,{DIGITS}", "layers of a fault as last-N"),
        (f"fault MODEL --out OUT --kind noise --layers spread-{DIGITS}", "layers of a fault as last-N"),
        (f"fault MODEL --out OUT --pair 1-{DIGITS}", "two experts as 5-11"),
        (f"fault MODEL --out OUT --kind noise --concerns {DIGITS}=x", "an expert and a kind of question"),
    ],
    ids=lambda value: value[:60],
)
def test_on_the_command_line(place, tmp_path, args, said):
    paths = {"MODEL": place / "model", "OUT": tmp_path / "out"}
    found = CliRunner().invoke(app, [str(paths.get(arg, arg)) for arg in args.split(" ")])
    assert found.exit_code == 1 and isinstance(found.exception, SystemExit), found.exception
    assert said in found.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", [f"layers: last-{DIGITS}", f"layers: '{DIGITS}'", "layers: all, doses: [1.0e+39]"])
def test_in_a_study_of_faults(place, tmp_path, line):
    study = tmp_path / "study.yaml"
    study.write_text(
        f"kind: faults\nmodel: {place / 'model'}\nselectors: {{told: fault-layers}}\noptimizers: {{ngd: ngd}}\n"
        f"datasets: [{{name: d, questions: {place / 'questions.jsonl'}, references: [{place / 'questions.jsonl'}]}}]\n"
        f"faults: {{f: {{kind: noise, {line}}}}}\n"
    )
    assert command("study", "plan", study) == 1


def test_in_the_truth_of_a_fault(place, tmp_path):
    write_faulty(load_moe_model(place / "model"), Fault("exchange", (1,), ((0, 1),)), tmp_path / "out")
    told = json.loads((tmp_path / "out" / FAULT).read_text())
    (tmp_path / "out" / FAULT).write_text(json.dumps(told | {"fault": told["fault"] | {"layers": [1e400]}}))
    with pytest.raises(DataError, match="expected a fault"):
        load_moe_model(tmp_path / "out")


def test_a_dose_within_float32_may_be_too_large_for_half_of_it():
    rows = torch.ones(4, 2, dtype=torch.float16) * 100
    fault = Fault("strengthen", (0,), experts=(1,), dose=1e5)
    with pytest.raises(SettingError, match=r"finite numbers in the router of layer 0 \(float16\), got 100000"):
        fault.changed(rows * torch.arange(4)[:, None], 0)
