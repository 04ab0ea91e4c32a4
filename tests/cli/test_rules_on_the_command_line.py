"""``--rule``: answers and traces along a rule, beside the model's own; and what is refused."""

import json

import pytest
from typer.testing import CliRunner

from c3po_adaptive import load_moe_model, rule_named
from c3po_adaptive.cli import app
from c3po_adaptive.testing import write_tiny_checkpoint

TEXT = "Which object can float on water?"
CHOICES = ["a stone", "a wooden boat"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("model"), "olmoe")


@pytest.fixture(scope="module")
def model(checkpoint):
    return load_moe_model(checkpoint)


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def held(checkpoint, *args):
    done = call("answer", TEXT, "--model", checkpoint, "--json", *args)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


class TestAnswer:
    def test_chooses_as_the_model_does_and_beside_that_along_a_rule(self, checkpoint, model):
        options = [word for choice in CHOICES for word in ("--choice", choice)]
        found = held(checkpoint, *options, "--rule", "top_k:1", "--rule", "ban:3/5@last-2")
        rule = rule_named("top-k:1;ban:3,5@last-2")
        assert found["rule"] == "top_k:1;ban:3/5@last-2"
        for part, routing in (("own", None), ("ruled", rule)):
            scores = model.score_choices(TEXT, CHOICES, routing).tolist()
            assert found[part]["scores"] == pytest.approx(scores, abs=1e-5)
            assert found[part]["choice"] == CHOICES[scores.index(max(scores))]
        assert found["own"]["scores"] != pytest.approx(found["ruled"]["scores"], abs=1e-3)
        table = call("answer", TEXT, "--model", checkpoint, *options, "--rule", "top-k:1").stdout
        assert all(word in table for word in ("own", "top-k:1", "chosen", *CHOICES))

    def test_continues_a_text(self, checkpoint, model):
        found = held(checkpoint, "--rule", "bias:3=+2.5@last-1", "--tokens", 6)
        for part, routing in (("own", None), ("ruled", rule_named("bias:3=2.5@last-1"))):
            assert found[part]["text"] == model.generate(TEXT, routing, max_new_tokens=6, do_sample=False)
        assert set(held(checkpoint, "--tokens", 2)) == {"model", "own"}

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["--rule", "bann:3"], "did you mean 'ban'?"),
            (["--rule", "ban:3@9"], "among the MoE layers 0, 1, 2, got 9"),
            (["--rule", "ban:0-6"], "at least 2 experts left in MoE layer 0"),
            (["--rule", f"ban:1@last-{'9' * 5000}"], "layers of rule 'ban' as all, last-5"),
            (["--tokens", str(10**30)], "tokens behind a text of"),
            (["--choice", "one"], "Expected two choices at least, or none, got ['one']"),
        ],
    )
    def test_refuses_what_cannot_be(self, checkpoint, args, said):
        done = call("answer", TEXT, "--model", checkpoint, *args)
        assert done.exit_code == 1
        assert said in done.stderr

    def test_a_family_with_a_router_of_its_own_is_told(self, tmp_path):
        folder = write_tiny_checkpoint(tmp_path, "phimoe")
        done = call("answer", TEXT, "--model", folder, "--rule", "top-k:1")
        assert done.exit_code == 1
        assert "a rule over router scores cannot be had for this family" in done.stderr
