"""The command line, end to end on a tiny checkpoint: once as a user would start it, else in this process."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import own_plugin
import pytest
import typer
import yaml
from study.configs import written
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.cli.demo import SHOWN
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.model_embedding import ModelEmbedder
from c3po_adaptive.registry import ROLES, new_registry
from c3po_adaptive.study.arms import DEMO as PACKAGED
from c3po_adaptive.study.arms import DEMO_ARMS
from c3po_adaptive.tasks import demo_questions
from c3po_adaptive.tasks.question_files import load_questions
from c3po_adaptive.testing import write_tiny_checkpoint
from c3po_adaptive.types import Question

SMALL = {"name": "fixed", "n": 2, "experts": 5}
ROW = {
    *("dataset", "split", "arm", "optimizer", "selector", "setting", "n", "accuracy", "gain", "ci_low", "ci_high"),
    *("needs_label", "nll", "flips_up", "flips_down", "layers", "cost"),
    *("references", "format", "chance", "base_accuracy"),
    *("draws", "detectable", "nll_difference", "nll_ci_low", "nll_ci_high", "calibration_error", "moved"),
    *("calibration_difference", "calibration_ci_low", "calibration_ci_high"),
    *("neighbours_used", "labels", "parameters", "controls", "p_beyond", "verdict", "because"),
}
COMPARISON = {"dataset", "a", "b", "n", "difference", "ci_low", "ci_high", "p", "cost_ratio"}
COMPARISON |= {"error", "detectable", "draws"}
FIRES = ("kettle on the fire", "pan on the fire", "pot on the fire")


def call(*args):
    """A command in this process, which must succeed; its standard output."""
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def start(*args, cwd):
    """A command as a user starts it."""
    command = [Path(sys.executable).with_name("c3po"), *map(str, args)]
    environment = os.environ | {"COLUMNS": "80"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=600)


def test_what_the_command_line_sets_for_a_user_who_did_not():
    code = "import os, c3po_adaptive.cli as _; print(*map(os.environ.get, ['OMP_WAIT_POLICY', 'THP_MEM_ALLOC_ENABLE']))"
    environment = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"} | {"OMP_WAIT_POLICY": "active"}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "active 1\n"


def read_lines(path):
    return path.read_text().rstrip("\n").split("\n")


def commands(group, *names):
    for name, command in group.commands.items():
        yield from commands(command, *names, name) if hasattr(command, "commands") else [([*names, name], command)]


def test_of_an_option_that_is_given_twice_the_last_does_not_win_in_silence():
    """In any command, but for those of several values."""
    for names, command in commands(typer.main.get_command(app)):
        for option in (one for one in command.params if one.param_type_name == "option" and not one.multiple):
            given = [option.opts[0], *(["1"] * (not option.is_flag))]
            result = CliRunner().invoke(app, [*names, *given, *given])
            said = f"Expected {option.opts[0]} once, got it 2 times"
            assert result.exit_code == 2 and said in result.output, (names, result.output)


def rows(folder):
    """Records by arm and id, without the time they took."""
    found = [json.loads(line) for line in read_lines(folder / "records.jsonl")]
    return {(r["arm"], r["id"]): {k: v for k, v in r.items() if k != "seconds"} for r in found}


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, references, test questions and a configuration; the cache is in it too."""
    folder = tmp_path_factory.mktemp("cli")
    write_tiny_checkpoint(folder / "model", "olmoe", num_hidden_layers=8, num_experts=64)
    colors, things = ("red", "green", "blue"), ("sky", "grass", "rose", "sea", "leaf", "brick", "berry", "frog")
    questions = [
        {"id": f"{t}-{c}", "task": "color", "question": f"Is the {t} {c}?", "choices": ["yes", "no"], "answer": i % 2}
        for i, (t, c) in enumerate((t, c) for t in things for c in colors)
    ]
    (folder / "references.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions[:20]))
    (folder / "test.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions[20:]))
    config = {
        "model": str(folder / "model"),
        "datasets": [
            {"name": "color", "questions": "test.jsonl", "split": None, "references": ["references.jsonl"]},
        ],
        "arms": {
            "base": {"optimizer": "none", "selector": {"name": "fixed", "n": 0}},
            "ngd": {"optimizer": "ngd", "selector": SMALL},
            "halfway": {"optimizer": "halfway", "selector": SMALL},
        },
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield folder


FEW = ("--model", "model", "--references", "references.jsonl")
ARMS = [name for name in DEMO_ARMS if name != "calibrated"]
"""Of the demo, all that the core has the strategies of."""
DEMO = (*FEW, "--limit", 8, *(word for name in ARMS for word in ("--arm", name)), "--wide")


@pytest.fixture(scope="module")
def process(place):
    """A run of ``c3po demo --json`` in a process of its own, in pipes."""
    done = start("demo", *DEMO, "--json", "--out", "demo", cwd=place)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def demo(process, place):
    """What the same command prints for a person, in this process, and the run's folder; nothing is answered again."""
    before = (place / "demo" / "records.jsonl").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c3po_adaptive.remixing.remixer.Remixer.answer", None)
        printed = call("demo", *DEMO, "--out", "demo")
    assert (place / "demo" / "records.jsonl").read_bytes() == before
    return printed, place / "demo"


class TestDemo:
    def test_in_a_pipe_json_is_all_that_is_printed(self, process, demo):
        """Progress is on standard error, as lines of ours, and no bars of other libraries."""
        assert json.loads(process.stdout) == json.loads((demo[1] / "summary.json").read_text())
        assert f"demo: base (1 of {len(ARMS)})" in process.stderr
        assert "it/s" not in process.stderr
        assert "%|" not in process.stderr

    def test_what_could_be_found_is_said_before(self, process):
        power = next(line for line in process.stderr.splitlines() if line.startswith("power:"))
        assert "8 questions of demo cannot show a gain over the base" in power
        assert process.stderr.index(power) < process.stderr.index("demo: base (1 of")

    def test_runs_all_arms_on_the_same_questions(self, demo):
        keys = list(rows(demo[1]))
        asked = {arm: sorted(i for a, i in keys if a == arm) for arm, _ in keys}
        assert list(asked) == ARMS
        assert all(ids == asked["base"] for ids in asked.values())
        assert len(asked["base"]) == 8

    def test_ends_with_one_sentence_an_arm_and_comparison(self, demo):
        compared = [f"{a} beside {b}" for a, b in PACKAGED["compare"]]
        last = demo[0].rstrip("\n").split("\n")[-len(ARMS) - len(compared) :]
        told = [line.partition(":")[0] for line in last]
        assert told[: len(ARMS)] == ARMS
        assert sorted(told[len(ARMS) :]) == sorted(compared)
        assert all(line.endswith(".") for line in last)

    def test_says_first_of_which_model_it_is(self, demo):
        assert demo[0].startswith("\nmodel:\n")

    def test_table_shows_whole_names_in_a_pipe(self, demo):
        table = demo[0].partition("Report:")[0]
        assert all(arm in table for arm in ARMS)

    def test_table_begins_with_references_and_chance(self, demo):
        (row,) = [r for r in summary(demo[1])["rows"] if r["arm"] == "base"]
        line = next(line for line in demo[0].split("\n") if "(chance)" in line)
        assert [cell.strip() for cell in line.split("│")[1:5]] == [
            *("demo ← references", "(chance)", "8", f"{row['chance']:.1f}"),
        ]
        assert row["base_accuracy"] == row["accuracy"]

    def test_report_is_named_and_shows_arms_and_question_texts(self, demo):
        printed, folder = demo
        report = (folder / "report.html").read_text()
        assert "Report: demo/report.html" in printed
        assert all(arm in report for arm in ARMS)
        asked = {id for _, id in rows(folder)}
        texts = [max(re.split(r"[^\w ]", q.question), key=len) for q in demo_questions("test") if q.id in asked]
        assert len(texts) > 3
        assert [text for text in texts if text not in report] == []

    def test_summary_has_the_keys_others_rely_on(self, demo):
        content = json.loads((demo[1] / "summary.json").read_text())
        assert {"rows", "comparisons", "versions", "seed", "config", "hashes"} <= content.keys()
        assert all(set(row) >= ROW | {"headline", "verdict"} for row in content["rows"])
        phases = {"embedding", "attribution", "optimisation", "total", "once"}
        assert all(set(row["cost"]) >= phases for row in content["rows"])
        assert all(set(c) >= COMPARISON | {"p_holm", "headline"} for c in content["comparisons"])
        assert {c["a"] for c in content["comparisons"] if c["b"] == "base"} == {*ARMS} - {"base"}
        assert {"torch", "transformers", "captum", "c3po_adaptive"} <= content["versions"].keys()
        assert {"config", "model", "records"} <= content["hashes"].keys()

    def test_base_changes_nothing_and_costs_one_forward(self, demo):
        (base,) = [r for r in summary(demo[1])["rows"] if r["arm"] == "base"]
        assert (base["gain"], base["flips_up"], base["flips_down"], base["layers"]) == (0, 0, 0, 0)
        free = {"embedding": 0, "attribution": 0, "optimisation": 0, "once": 0}
        assert base["cost"] == free | {"prefill": 1, "total": 1}

    def test_first_look_has_four_arms_and_controls_and_fits_a_terminal(self, place, tmp_path):
        told = call("demo", *FEW, "--limit", 2, "--out", tmp_path / "first")
        assert {arm for arm, _ in rows(tmp_path / "first")} == {"base", *SHOWN}
        table = [line for line in told.split("\n") if line and line[0] in "┏┃┡│└"]
        assert len(table) == len(SHOWN) + 6
        assert max(map(len, table)) <= 80
        assert "Found:" not in told, "one model"

    def test_own_questions(self, place, tmp_path):
        options = ("--model", "model", "--references", "references.jsonl", "--questions", "test.jsonl")
        call("demo", *options, "--arm", "base", "--format", "letter", "--out", tmp_path / "own")
        (row,) = summary(tmp_path / "own")["rows"]
        assert (row["dataset"], row["n"]) == ("test", 4)


class TestReport:
    def test_is_drawn_again_from_records(self, demo, place, tmp_path):
        out = shutil.copytree(demo[1], tmp_path / "copy")
        (out / "report.html").unlink()
        assert call("report", out) == f"Report: {out / 'report.html'}\n"
        assert (out / "report.html").read_text() == (demo[1] / "report.html").read_text()
        assert summary(out) == summary(demo[1])

    def test_takes_texts_from_given_files(self, evaluated, place, tmp_path):
        out = shutil.copytree(evaluated[1], tmp_path / "copy")
        other = [json.loads(line) | {"question": "A text of today."} for line in read_lines(place / "test.jsonl")]
        (tmp_path / "now.jsonl").write_text("".join(json.dumps(q) + "\n" for q in other))
        call("report", out, "--questions", tmp_path / "now.jsonl")
        assert "A text of today." in (out / "report.html").read_text()


@pytest.fixture(scope="module")
def evaluated(place):
    """A run of ``c3po evaluate`` with a plugin and settings: what it printed, and its folder."""
    settings = ("--set", "arms.ngd.optimizer.steps=3", "--set", "datasets.0.limit=3", "--set", "batch_size=2")
    return call(
        "evaluate", "--config", "run.yaml", "--out", "run", *settings, "--plugin", own_plugin.FILE
    ), place / "run"


class TestEvaluate:
    def test_settings_reach_the_run(self, evaluated):
        found = summary(evaluated[1])
        setting = {row["arm"]: row["setting"] for row in found["rows"]}
        assert setting["ngd"]["optimizer"]["steps"] == 3
        assert setting["halfway"]["optimizer"]["name"] == "halfway"
        assert [row["n"] for row in found["rows"]] == [3, 3, 3]
        assert found["config"]["batch_size"] == 2

    def test_plugin_moves_pathways(self, evaluated):
        assert all(len(r["layers"]) == 2 for (arm, _), r in rows(evaluated[1]).items() if arm == "halfway")

    def test_says_what_was_not_run(self, evaluated):
        last = evaluated[0].rstrip("\n").split("\n")[-4:]
        assert [line.split(":")[0] for line in last[:3]] == ["base", "ngd", "halfway"]
        assert last[3] == "No control was run: what a gain comes from cannot be said."


class TestStudy:
    def test_plan_shows_what_would_run_and_runs_nothing(self, place):
        before = sorted(place.iterdir())
        printed = call(
            "study", "plan", "run.yaml", "--set", "datasets.0.limit=2", "--plugin", own_plugin.FILE
        ).splitlines()
        assert printed[0] == "color: 2 questions, 20 references"
        assert [line.split(":")[0].strip() for line in printed[1:4]] == ["base", "ngd", "halfway"]
        said = [line.split(":")[0] for line in printed[4:] if not line.startswith(" ")]
        assert said == ["power", "model", "memory", "6 answers, plain ones"]
        assert sorted(place.iterdir()) == before


@pytest.fixture(scope="module")
def built(place):
    """A reference set: what its making printed, and its folder."""
    return call("refset", "build", "references.jsonl", "--model", "model", "--out", "set"), place / "set"


class TestReferenceSets:
    def test_build_says_how_many_were_answered_right(self, built):
        card = json.loads((built[1] / "card.json").read_text())
        assert built[0] == f"20 references, {card['successes']} answered right: set\n"
        assert 0 < card["successes"] < 20

    def test_build_leaves_nothing_else_behind(self, built, place):
        assert [p.name for p in place.iterdir() if p.name.startswith(".")] == []

    def test_one_by_the_models_own_features_fits_its_model(self, built, place):
        model = load_moe_model("model")
        questions = load_questions("references.jsonl")
        build_reference_set(model, questions, ModelEmbedder(model)).save("own")
        assert "whole" in call("refset", "check", "own", "--model", "model")
        arm = ("--arm", "ngd", "--set", "selector.n=2", "--set", "optimizer.steps=1")
        assert "neighbours: 3" in call("explain", "Is it?", "--refset", "own", "--model", "model", *arm)

    def test_check_names_whom_their_nearest_ones_vote_against(self, built, place):
        """As ``docs/howto/poisoned.md`` shows it for a person."""
        asked = [Question(f"q{i}", f"Is a {thing} hot?", ("yes", "no"), i % 2) for i, thing in enumerate(FIRES)]
        written(place / "doubted.jsonl", asked)
        call("refset", "build", "doubted.jsonl", "--model", "model", "--out", "doubted")
        assert "vote" not in call("refset", "check", "doubted", "--model", "model")
        (one,) = json.loads(call("refset", "check", "doubted", "--model", "model", "--suspects", "--json"))["suspects"]
        assert (one["id"], one["answer"], one["voted"]) == ("q1", "no", "yes")
        assert 0.5 < one["suspicion"] <= 1


class TestPlugins:
    @pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "80 columns"])
    def test_list_shows_every_name_whole(self, terminal, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda self: terminal, raising=False)
        words = call("plugins", "list").split()
        registry = new_registry()
        assert {name for role in ROLES for name in registry.names(role)} <= set(words)

    def test_list_shows_where_a_plugin_comes_from(self):
        words = call("plugins", "list", "--plugin", own_plugin.FILE).split()
        assert {"halfway", "practised"} <= {*words}

    def test_list_ends_with_kinds_of_study_and_sources(self, install_package):
        install_package("rows_of_mine", "rows = dict", "c3po_adaptive.sources", "mine", "rows_of_mine:rows")
        *_, studies, sources = call("plugins", "list").strip().splitlines()
        assert studies.startswith("Kinds of study: comparison")
        assert sources.startswith("Sources of questions: demo, files") and "mine:" in sources

    def test_show(self):
        assert call("plugins", "show", "kernel-regression").startswith("optimizer kernel-regression (builtin)")
        words = call("plugins", "show", "practised", "--plugin", own_plugin.FILE)
        assert "  training: 32  (int; a whole number >= 2)\n      references to practise on." in words
        assert "  n: 5  (int | None; a whole number >= 0)\n" in words
        assert "  learned:" not in words, "what it learned is no parameter"


@pytest.mark.parametrize("command", ["", "demo", "evaluate", "report", "refset", "plugins", "study", "refset build"])
def test_help_explains(command):
    assert "Usage" in call(*command.split(), "--help")
