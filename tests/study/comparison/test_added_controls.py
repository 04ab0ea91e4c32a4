"""Controls of what plugin files bring: the same as those of built-ins, or a sentence that says which are lacking."""

import inspect
import json
import pickle
import re
from pathlib import Path

import pytest
from routing.toys import questions
from study.configs import parse_config, registry_of, with_all_arms, written
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, PluginError, SettingError
from c3po_adaptive.registry import BUILTIN, ROLES, new_registry
from c3po_adaptive.storage.run_folder import claim
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.executor import done
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")
BUILT_IN = [entry for entry in new_registry(installed=False).table() if entry.plugin == BUILTIN]
COPIED = "copied-"
MINE = """
from dataclasses import dataclass
from typing import ClassVar

import torch

from c3po_adaptive import PathwayOptimizer, hookimpl
from c3po_adaptive.optimizers import Descent
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.selectors import Fixed


@dataclass(frozen=True)
class Mine(Descent):
    steps: int = 3
    lr: float = 0.05
    name: ClassVar[str] = "mine"

    def optimize(self, problem):
        return self.descend(problem.loss, problem)


@dataclass(frozen=True)
class Silent(PathwayOptimizer):
    steps: int = 1
    name: ClassVar[str] = "silent"

    def optimize(self, problem):
        return problem.own


@dataclass(frozen=True)
class Many(FaissKNN):
    k: int = 17
    name: ClassVar[str] = "many"


@dataclass(frozen=True)
class Two(Fixed):
    n: int = 2
    experts: int | None = 5
    name: ClassVar[str] = "two"


@hookimpl
def register_optimizers():
    return [Mine, Silent]


@hookimpl
def register_retrievers():
    return [Many]


@hookimpl
def register_layer_selectors():
    return [Two]
"""


SAYS_NOTHING = {"my arm": {"optimizer": "silent", "selector": "two"}}
SAYS_ALL = {"my arm": {"optimizer": "mine", "selector": "two", "retriever": {"name": "many", "k": 3}}}


@pytest.fixture
def mine(tmp_path):
    """The plugin's file."""
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, questions and references; the cache is in it, too."""
    folder = tmp_path_factory.mktemp("controlled")
    write_tiny_checkpoint(folder / "model", "qwen2_moe")
    for name, count in (("references", 14), ("asked", 4)):
        written(folder / f"{name}.jsonl", questions(count, name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        yield folder


def of(arms, place=Path(), **more):
    """Plain values of a comparison in which each arm gets its controls."""
    data = {"name": "asked", "questions": str(place / "asked.jsonl"), "references": [str(place / "references.jsonl")]}
    given = {"model": str(place / "model"), "datasets": [data | {"split": None}], "controlled": [*arms]}
    return given | {"arms": {"base": {"optimizer": "none"}, **arms}} | more


def that_runs(config):
    """With the base in the place of the arm that corrects its scores, which is a companion's."""
    return config | {"arms": {**config["arms"], "calibrated": {"optimizer": "none"}}}


def copy(entry, folder):
    """A built-in strategy's file as a plugin beside it would be, under another name."""
    package, source = entry.module.rpartition(".")[0], inspect.getsource(inspect.getmodule(entry.cls))
    text = re.sub(r"from \.\.(?=\w)", f"from {package.rpartition('.')[0]}.", source)
    text = re.sub(r"from \.(?=\w)", f"from {package}.", text)
    text, named = re.subn(
        f'name: ClassVar\\[str\\] = "{entry.name}"', f'name: ClassVar[str] = "{COPIED}{entry.name}"', text
    )
    assert named == 1
    hook = ROLES[entry.role][1]
    text += f"\n\nfrom c3po_adaptive import hookimpl\n\n@hookimpl\ndef {hook}():\n    return [{entry.cls.__name__}]\n"
    (folder / f"{entry.name}_{entry.role}.py").write_text(text)
    return folder / f"{entry.name}_{entry.role}.py"


def planned(config, plugins, folder):
    (folder / "study.yaml").write_text(json.dumps(that_runs(config)))
    options = [part for file in plugins for part in ("--plugin", str(file))]
    done = CliRunner().invoke(app, ["study", "plan", str(folder / "study.yaml"), *options, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("role", ["optimizer", "retriever", "selector", "kernel"])
def test_a_copy_of_a_built_in_strategy_gets_the_controls_that_it_has(role, tmp_path, monkeypatch):
    """By ``--plugin FILE``: their names, strategies and parameters, the bound, and what is lacking."""
    monkeypatch.setattr("c3po_adaptive.study.plan.SMALL", 0)  # how fast the model is here is not looked at
    entries = [entry for entry in BUILT_IN if entry.role == role]
    data = {"name": "demo", "questions": "demo", "limit": 2, "references": ["demo:references"], "references_limit": 64}
    shared = {"model": "smollm2-moe", "datasets": [data]}
    ours, theirs = (
        of({f"arm {e.name}": {role: {"name": f"{prefix}{e.name}"}} for e in entries}) | shared
        for prefix in ("", COPIED)
    )
    found = planned(theirs, [copy(entry, tmp_path) for entry in entries], tmp_path)
    expected = planned(ours, [], tmp_path)
    assert len(expected["arms"]) > 4 * len(entries)
    assert COPIED in json.dumps(found["arms"])
    assert json.loads(json.dumps(found["arms"]).replace(COPIED, "")) == expected["arms"]
    assert found["lacking"] == expected["lacking"]


class TestOfAPlugin:
    """What a file's strategies take by default, their controls take."""

    def test_one_change_for_all_and_the_oracle_are_by_its_steps(self, mine):
        made = with_all_arms(of({"my arm": {"optimizer": "mine"}}), registry_of(mine)).arms
        usual = {"lr_end": 1e-5, "step": "adam", "parametrization": "projection", "tolerance": 0.0}
        assert made["constant"].optimizer == {"name": "constant", "steps": 3, "lr": 0.05, **usual}
        assert made["my arm, oracle"].optimizer == {"name": "oracle", "of": "mine"}

    def test_random_neighbours_are_as_many(self, mine):
        made = with_all_arms(of({"my arm": {"retriever": "many"}}), registry_of(mine)).arms
        assert made["my arm, random neighbours"].retriever == {"name": "random", "k": 17}

    def test_a_number_of_neighbours_that_is_called_otherwise_is_not_guessed(self, mine, place):
        mine.write_text(MINE.replace("FaissKNN", "FaissRadius").replace("    k: int = 17", "    k = None"))
        arms = {name: {"retriever": name, "selector": "two"} for name in ("many", "faiss-radius")}
        said = planned(of(arms, place), [mine], mine.parent)
        assert "many, random neighbours" not in said["arms"] and said["lacking"] == {"many": ["random neighbours"]}
        assert said["arms"]["faiss-radius, random neighbours"]["retriever"] == {"name": "random", "k": 16}, "its limit"

    def test_random_layers_are_as_many(self, mine):
        made = with_all_arms(of({"my arm": {"selector": "two"}}), registry_of(mine)).arms
        assert made["my arm, random layers"].selector == {"name": "random", "n": 2, "experts": 5}

    def test_what_takes_its_steps_once_may_be_its_own(self, tmp_path):
        once = MINE.replace("class Silent(PathwayOptimizer):", "class Silent(PathwayOptimizer):\n    changes = 'same'")
        (tmp_path / "own.py").write_text(once.replace("steps: int = 3", 'one_for_all = "silent"\n    steps: int = 3'))
        made = with_all_arms(of({"my arm": {"optimizer": "mine"}}), registry_of(tmp_path / "own.py")).arms
        assert made["constant"].optimizer == {"name": "silent", "steps": 3}

    def test_steps_that_nothing_takes_once_are_said_to_have_no_such_control(self, tmp_path, place):
        """They lack none: there is none."""
        (tmp_path / "own.py").write_text(MINE.replace("steps: int = 3", 'one_for_all = ""\n    steps: int = 3'))
        assert planned(of(SAYS_ALL, place), [tmp_path / "own.py"], tmp_path)["lacking"] == {}

    @pytest.mark.parametrize("named", ["silent", "absent"])
    def test_what_does_not_take_them_once_is_refused(self, tmp_path, named):
        (tmp_path / "bad.py").write_text(MINE.replace("steps: int = 3", f'one_for_all = "{named}"\n    steps: int = 3'))
        with pytest.raises(PluginError, match=rf"one_for_all of optimizer 'mine' to name .* got '{named}'; correct"):
            with_all_arms(of({"my arm": {"optimizer": "mine"}}), registry_of(tmp_path / "bad.py"))

    def test_what_a_report_could_not_tell_is_refused_before_the_run(self, tmp_path, place):
        (tmp_path / "bad.py").write_text(MINE.replace("steps: int = 1", 'changes = "some"\n    steps: int = 1'))
        config = parse_config(of(SAYS_NOTHING, place, controlled=[]))
        with pytest.raises(DataError, match=r"Arm my arm: expected the setting of an arm, .*changes.*correct the plug"):
            STUDY.run(config, tmp_path / "run", registry_of(tmp_path / "bad.py"))


def test_neighbours_that_nobody_looks_at_are_not_drawn_at_random():
    """Such an arm would answer as its control does, and never be told from it."""
    made = with_all_arms(of({"modes": {"optimizer": "mode-finding"}})).arms
    assert "modes, random change" in made
    assert "modes, random neighbours" not in made


@pytest.mark.parametrize(
    ("arm", "read"),
    [
        ({"optimizer": "mine", "selector": "two"}, False),
        ({"optimizer": {"name": "none", "start": "core"}}, False),
        ({"answerer": {"name": "rule", "rule": "top-k:1"}}, False),
        ({"optimizer": "mine", "selector": "misrouted"}, True),
        ({"optimizer": "constant"}, True),
    ],
)
def test_labels_that_nobody_reads_are_not_shuffled(arm, read, mine):
    """Such an arm would answer as its control does, bit for bit."""
    mine.write_text(MINE.replace("class Mine(Descent):", "class Mine(Descent):\n    needs_neighbours = False"))
    made = with_all_arms(of({"my arm": arm}), registry_of(mine)).arms
    assert ("my arm, shuffled labels" in made) == read
    assert {"constant", "calibrated", "core mixed"} <= made.keys()


def test_arms_share_controls_that_would_answer_alike(place, tmp_path):
    """What they differ in, random neighbours and the label do without; Holm's correction counts each arm once."""
    arms = {"near": {"retriever": {"name": "faiss-knn", "k": 16}}, "within": {"retriever": "faiss-radius"}}
    given = that_runs(of({name: arm | {"selector": {"name": "fixed", "n": 2}} for name, arm in arms.items()}, place))
    made = with_all_arms(given).arms
    drawn, bound = (f"near, {control}" for control in ("random neighbours", "oracle"))
    assert made[drawn].control_of == (*arms,) and made[bound].control_of == ()
    repeated = {f"within, {control}" for control in ("random neighbours", "oracle")}
    assert not repeated & made.keys() and "within, random layers" in made, "by other neighbours"
    assert with_all_arms(given | {"arms": {name: arm.model_dump() for name, arm in made.items()}}).arms == made
    assert repeated <= with_all_arms(given | {"compare": [["within", name] for name in repeated]}).arms.keys()
    (tmp_path / "study.yaml").write_text(json.dumps(given))
    said = CliRunner().invoke(app, ["study", "plan", str(tmp_path / "study.yaml")]).output
    assert f"shared: {drawn} is also within, random neighbours; they would answer alike" in said


def test_a_control_may_be_named_before_it_is_there():
    """By what compares it; one that no plugin adds is refused once they are loaded."""
    compared = of({"near": {}}, compare=[["near", "near, random neighbours"], ["near", "constant"]])
    assert [*with_all_arms(compared).arms][:3] == ["base", "near", "near, shuffled labels"]
    compared["compare"].append(["near", "near, randm neighbours"])
    with pytest.raises(SettingError, match=r"got near, randm neighbours \(compare\); did you mean 'near, random"):
        with_all_arms(compared)


class TestLacking:
    """An optimizer that takes steps, and does not say what takes them once."""

    SAID = "my arm has no control with one change for all questions, so no gain of it is said to go beyond"

    def test_it_is_said_wherever_the_arm_is_told_of(self, place, mine, tmp_path):
        (tmp_path / "study.yaml").write_text(json.dumps(that_runs(of(SAYS_NOTHING, place))))
        words, out = [str(tmp_path / "study.yaml"), "--plugin", str(mine)], tmp_path / "run"
        for command in (["plan", *words], ["run", *words, "--out", str(out)]):
            done = CliRunner().invoke(app, ["study", *command])
            assert done.exit_code == 0, done.output
            assert self.SAID in " ".join(done.output.split())
        assert "(one_for_all), or write an arm with control_of: [my arm]" in " ".join(done.output.split())
        page = out / "report.html"
        assert self.SAID in page.read_text()
        assert "constant" not in json.loads((out / "config.json").read_text())["config"]["arms"], "nothing is guessed"
        for name in ("report.html", "summary.json"):
            (out / name).unlink()
        records = (out / "records.jsonl").read_text().splitlines(keepends=True)
        (out / "records.jsonl").write_text("".join(records[:-1]))
        assert CliRunner().invoke(app, ["report", str(out)]).exit_code == 0, "without the plugin"
        assert self.SAID in page.read_text(), "of a run that was interrupted, too"

    def test_one_that_is_written_will_do(self, place, mine):
        arms = SAYS_NOTHING | {"once": {"optimizer": "constant", "selector": "two", "control_of": ["my arm"]}}
        config = of(arms, place) | {"controlled": ["my arm"]}
        assert planned(config, [mine], mine.parent)["lacking"] == {}


class Elsewhere:
    """Computes pieces as another process would, from what it is sent."""

    def map(self, worker, pieces):
        sent = pickle.loads(pickle.dumps(worker))
        for piece in pieces:
            yield done(sent, piece)


class TestRun:
    def test_every_arm_is_answered_wherever_that_is_and_the_run_goes_on(self, place, mine, tmp_path):
        given, registry, out = that_runs(of(SAYS_ALL, place)), registry_of(mine), tmp_path / "run"
        first = STUDY.run(parse_config(given), out, registry, executor=Elsewhere())
        assert {row.arm for row in first.rows} == {*with_all_arms(given, registry).arms}
        assert "my arm, oracle" in {row.arm for row in first.rows}
        assert STUDY.run(parse_config(given), out, registry_of(mine)).rows == first.rows

    def test_one_that_was_begun_with_other_controls_is_refused_by_their_names(self, place, mine, tmp_path):
        given = that_runs(of(SAYS_ALL, place))
        begun = with_all_arms(given, registry_of(mine)).model_dump(mode="json")
        begun["arms"] = {name: arm for name, arm in begun["arms"].items() if name != "my arm, oracle"}
        claim(tmp_path / "run", begun | {"inputs": {"plugins": registry_of(mine).files}})
        with pytest.raises(DataError, match=r"\(they differ in arms: my arm, oracle\); name another --out"):
            STUDY.run(parse_config(given), tmp_path / "run", registry_of(mine))
