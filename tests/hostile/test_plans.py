"""What a study's run refuses, its plan refuses: before anything is spent."""

import json

import pytest
from hostile.doors import question
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.testing import write_tiny_checkpoint


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize(
    ("answerer", "said"),
    [
        ("{name: rule, rule: 'ban:0-6'}", "Arm odd: Expected at least 2 experts left in MoE layer 0"),
        ("{name: rule, rule: 'ban:0-3;ban:4-7@1'}", "2 experts left in MoE layer 1, which"),
    ],
)
def test_an_arm_that_cannot_be(tmp_path, verb, answerer, said):
    is_refused_by(verb, answerer, said, tmp_path)


def is_refused_by(verb, answerer, said, tmp_path):
    write_tiny_checkpoint(tmp_path / "model", "olmoe")
    asked = tmp_path / "questions.jsonl"
    asked.write_text("".join(json.dumps(question(f"q{i}", i % 2, f"Is it {i}?")) + "\n" for i in range(14)))
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "study.yaml").write_text(
        f"kind: comparison\nmodel: {tmp_path / 'model'}\n"
        f"datasets: [{{name: d, questions: {asked}, limit: 2, references: [{asked}]}}]\n"
        f"arms: {{base: {{optimizer: none}}, odd: {{answerer: {answerer.replace('PLACE', str(tmp_path))}}}}}\n"
    )
    out = [] if verb == "plan" else ["--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, ["study", verb, str(tmp_path / "study.yaml"), *out])
    assert found.exit_code == 1 and isinstance(found.exception, SystemExit), found.exception
    assert said in found.stderr
    assert not (tmp_path / "out" / "records.jsonl").exists()
