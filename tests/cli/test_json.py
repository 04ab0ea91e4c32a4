"""``--json``: what commands print for programs, and nothing else on standard output."""

import json

import pytest
from cli.test_cli import call, place  # noqa: F401 (a fixture)
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.registry import ROLES, new_registry

pytestmark = pytest.mark.usefixtures("undrawn")


def values(*args):
    return json.loads(call(*args, "--json"))


@pytest.fixture(scope="module")
def run(place):  # noqa: F811
    """A small run's folder, and what it printed."""
    arms = ("--arm", "kernel-regression", "--model", "model", "--references", "references.jsonl", "--limit", "6")
    return values("demo", *arms, "--out", "small"), place / "small"


class TestRuns:
    def test_a_study(self, place, run):  # noqa: F811
        found = values("study", "plan", "run.yaml", "--set", "arms.halfway.optimizer=none")
        assert found["datasets"] == [{"name": "color", "questions": 4, "references": 20, "given_again": 0}]
        assert list(found["arms"]) == ["base", "ngd", "halfway"]
        assert found["forecast"]["parameters"] > 0
        ran = ("--set", "arms.halfway.optimizer=none", "--set", "arms.ngd.optimizer.steps=1")
        first = values("study", "run", "run.yaml", "--out", "studied", *ran)
        assert first == values("evaluate", "--config", "run.yaml", "--out", "studied", *ran)

    def test_a_report(self, run):
        assert values("report", run[1]) == run[0]

    def test_errors_leave_standard_output_empty(self):
        result = CliRunner().invoke(app, ["report", "nowhere", "--json"])
        assert (result.exit_code, result.stdout) == (1, "")


class TestOthers:
    def test_strategies(self):
        found = values("plugins", "list")
        registry = new_registry()
        assert {(e["role"], e["name"]) for e in found} == {(r, n) for r in ROLES for n in registry.names(r)}
        assert all(e["doc"] and e["from"] == "builtin" for e in found if e["name"] in ("ngd", "fixed"))

    def test_a_strategy(self):
        (found,) = values("plugins", "show", "attribution")
        told = {p["name"]: p for p in found["parameters"]}
        shown = {key: value for key, value in told["n"].items() if key != "meaning"}
        assert shown == {
            "name": "n",
            "type": "int | None",
            "allowed": "a whole number >= 0",
            "required": False,
            "default": 5,
        }
        assert told["of"]["allowed"] == "'neighbours', 'entropy', 'margin'"
        assert "input-x-gradient" in told["method"]["allowed"]
        assert told["share"]["meaning"], "of the class above"
        assert told["experts"]["type"] == "int | None"

    @pytest.mark.parametrize("entry", new_registry().table(), ids=lambda entry: f"{entry.role} {entry.name}")
    def test_every_strategy_can_be_shown(self, entry):
        shown = [e for e in values("plugins", "show", entry.name) if e["role"] == entry.role]
        assert [p["name"] for p in shown[0]["parameters"]] == list(entry.parameters)
        assert all(p["type"] for p in shown[0]["parameters"])

    def test_models(self, place):  # noqa: F811
        families = values("models")
        assert {"olmoe", "mixtral"} <= {row["family"] for row in families}
        images = {row["family"]: row["images"] for row in families}
        assert images["aria"] is images["glm4v_moe"] is True and images["olmoe"] is False
        assert "diffusion" in images["diffusion_gemma"]
        found = values("models", "model")
        assert found["name"] == "model"
        assert found["n_experts"] == 64

    def test_reference_sets(self, place):  # noqa: F811
        call("refset", "build", "references.jsonl", "--model", "model", "--out", "shown")
        card = values("refset", "show", "shown")
        assert card == json.loads((place / "shown" / "card.json").read_text())
        assert values("refset", "check", "shown", "--model", "model") == {
            "whole": True, "references": 20, "successes": card["successes"],
        }  # fmt: skip
