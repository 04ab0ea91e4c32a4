"""``c3po trace diff`` of folders of traces, and of two models on the same texts."""

import json

import pytest
import torch
from typer.testing import CliRunner

from c3po_adaptive import load_moe_model
from c3po_adaptive.cli import app
from c3po_adaptive.models.traced import record, write_trace
from c3po_adaptive.testing import write_tiny_checkpoint

TEXTS = ("the boat floats on the water", "who sells bread", "a stone sinks")


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A model, the same after a little training, and their traces of the texts."""
    folder = tmp_path_factory.mktemp("sets")
    write_tiny_checkpoint(folder / "before", "olmoe")
    moved = load_moe_model(folder / "before", dtype="float32")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in moved.model.model.layers:
            layer.mlp.gate.weight += 0.02 * torch.randn(layer.mlp.gate.weight.shape, generator=generator)
    moved.model.save_pretrained(folder / "after")
    moved.tokenizer.save_pretrained(folder / "after")
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    for name in ("before", "after"):
        model = load_moe_model(folder / name, dtype="float32")
        (folder / f"{name}_traces").mkdir()
        for i, text in enumerate(TEXTS):
            write_trace(record(model, text), folder / f"{name}_traces" / f"{i}.parquet")
    return folder


def run(there, *command):
    return CliRunner().invoke(app, ["trace", "diff", *(str(there / part) for part in command[:2]), *command[2:]])


def test_folders_and_models_say_the_same(there):
    folders = run(
        there, "before_traces", "after_traces", "--model", str(there / "before"), "--dtype", "float32", "--json"
    )
    given = ("--texts", str(there / "texts.txt"), "--dtype", "float32", "--json")
    models = run(there, "before", "after", *given)
    one, other = json.loads(folders.stdout), json.loads(models.stdout)
    assert one["texts"] == 3 and 0.5 < one["same"]["value"] < 1 and one["nats"]["value"] != 0
    for key in ("experts", "same", "weights", "nats"):
        assert one[key]["value"] == pytest.approx(other[key]["value"], abs=1e-5)
    assert one["by_layer"] == other["by_layer"] and len(one["by_margin"]) == 4


def test_for_people_and_as_a_picture(there, tmp_path):
    done = run(there, "before_traces", "after_traces", "--picture", str(tmp_path / "agreement.svg"))
    assert done.exit_code == 0, done.output
    one, other = (f"{there / name}_traces, of {name}" for name in ("before", "after"))
    assert f"one: {one}; other: {other}\n" in done.output
    assert "3 texts, " in done.output and "same set" in done.output and "of 3 texts differ" in done.output
    drawn = (tmp_path / "agreement.svg").read_text()
    assert "decoder layer" in drawn and "router's margin" not in drawn, "no model, no margin"


def test_one_checkpoint_in_two_precisions(there):
    done = run(
        there,
        "before",
        "before",
        "--texts",
        str(there / "texts.txt"),
        "--dtype",
        "float32",
        "--other-dtype",
        "bfloat16",
        "--json",
    )
    found = json.loads(done.stdout)
    assert 0.8 < found["same"]["value"] <= 1
    assert (found["one"], found["other"]) == ("before in float32", "before in bfloat16")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("before_traces", "nothing"), "Expected traces in"),
        (("before_traces", "after_traces", "--limit", "2"), r"--limit beside --texts"),
        (("before", "after", "--texts", "none.csv", "--model", "x"), r"--model without --texts"),
        (("before", "after", "--texts", "none.csv"), r"a line a text"),
    ],
)
def test_what_does_not_fit_is_refused(there, command, said):
    done = run(there, *command)
    assert done.exit_code == 1 and said in " ".join(done.output.split())


def test_traces_without_a_partner_are_refused(there, tmp_path):
    write_trace(record(load_moe_model(there / "before"), "so it is"), tmp_path / "x.parquet")
    done = CliRunner().invoke(app, ["trace", "diff", str(there / "before_traces"), str(tmp_path)])
    assert done.exit_code == 1 and "4 without a partner beside 0 pairs" in " ".join(done.output.split())
