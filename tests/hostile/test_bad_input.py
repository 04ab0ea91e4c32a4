"""Whatever is wrong with what a user gives: one clear error, no traceback, and nothing lost that was written before."""

import json
import re

import pytest
import yaml
from hostile.doors import BASE, SMALL, question, untouched
from records.made import rows_in
from typer.testing import CliRunner

from c3po_adaptive import DataError, Optimizer, Question, load_moe_model
from c3po_adaptive.cli import app
from c3po_adaptive.storage.lock import held

pytestmark = pytest.mark.usefixtures("undrawn")


def refused(*args):
    """The one error of a command that must fail."""
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    messages = result.stderr.split("error: ")[1:]
    assert len(messages) == 1, result.stderr
    return messages[0]


def write(path, rows):
    """A JSONL file of rows, of which texts are taken as they are."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def model(place):
    return load_moe_model(place / "model")


def config(tmp_path, **changes):
    """A configuration file of base and NGD, changed."""
    dataset = {"name": "t", "questions": "test.jsonl", "split": None, "references": ["references.jsonl"]}
    raw = {"model": "model", "datasets": [dataset], "arms": {"base": BASE, "ngd": {"selector": SMALL}}} | changes
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def evaluate(tmp_path, *options, **changes):
    return refused("evaluate", "--config", config(tmp_path, **changes), "--out", tmp_path / "run", *options)


class TestQuestionFiles:
    @pytest.mark.parametrize("command", ["refset build", "demo"])
    def test_are_named_with_the_line(self, place, tmp_path, command):
        file = write(tmp_path / "bad.jsonl", [question("a"), '{"id": "b", "task'])
        given = [file] if command == "refset build" else ["--references", file]
        message = refused(*command.split(), *given, "--model", "model", "--out", tmp_path / "out")
        assert f"{file}, line 2: expected one JSON object per line" in message
        assert not (tmp_path / "out").exists()

    def test_same_id_in_two_reference_files(self, place, tmp_path):
        other = write(tmp_path / "more.jsonl", [question("references3", text="Is this another one?")])
        options = ("--references", "references.jsonl", "--references", other)
        message = refused("demo", "--model", "model", *options, "--out", tmp_path / "run")
        assert re.search(r"expected each id once, got 'references3' again", message)

    def test_prompt_longer_than_the_context_is_named(self, place, tmp_path):
        long = write(tmp_path / "long.jsonl", [question("short"), question("long-one", text="word " * 200)])
        message = refused("refset", "build", long, "--model", "model", "--out", tmp_path / "set")
        assert re.search(r"long-one.*Expected at most 512 tokens, the model's context, got 10\d\d.*shorten", message)


class TestReferences:
    def test_none_answered_right(self, place, model, tmp_path):
        asked = [question(f"q{i}", text=f"Is {i} odd?") for i in range(6)]
        chosen = [
            int(s.argmax()) for s in model.score_choices([q["question"] for q in asked], [q["choices"] for q in asked])
        ]
        wrong = write(tmp_path / "wrong.jsonl", [q | {"answer": 1 - c} for q, c in zip(asked, chosen, strict=True)])
        with pytest.raises(DataError, match=r"references that the model answers right, got none among 6.*use easier"):
            Optimizer(model, refset=wrong, selector=SMALL)
        datasets = [{"name": "t", "questions": "test.jsonl", "split": None, "references": [str(wrong)]}]
        assert "got none among 6" in evaluate(tmp_path, datasets=datasets)
        kept = [json.loads(line)["arm"] for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
        assert kept == ["base"] * 4


class TestNames:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"arms": {"base": BASE, "x": {"kernel": "rbf"}}}, "Expected a kernel, got 'rbf'; there are .*gaussian, "),
            ({"arms": {"base": BASE, "x": {"optimiser": "ngd"}}}, r"arms.x.optimiser: an unknown key; did you mean"),
            (
                {"modle": "model"},
                r"Expected a run configuration, got modle: an unknown key; did you mean 'model'\? There are .* model, ",
            ),
            ({"plugins": ["my.py"]}, r"got plugins: an unknown key; give --plugin FILE on the command line\."),
            (
                {"arms": {"base": BASE, "x": {"rule": "ban:3"}}},
                r"arms\.x\.rule: an unknown key; write answerer: \{name: rule, rule: …\}\.",
            ),
            ({"batch_size": 0}, "batch_size: Input should be greater than or equal to 1"),
            ({"datasets": "d.jsonl"}, "datasets: Input should be a list, not 'd.jsonl'"),
            ({"dtype": "float8"}, "Expected a dtype, got 'float8'; did you mean 'float32'.*There are auto, float32"),
            ({"datasets": [{"name": "all", "questions": "demo"}]}, "datasets: .*expected data sets of different names"),
            ({"datasets": [{"name": "d", "questions": "demo"}] * 2}, r"datasets: .*got \['d', 'd'\]"),
            ({"arms": {"ngd": {}}}, "Expected an arm that leaves the model alone.*got ngd; add base"),
            ({"model": "./nowhere"}, r"a folder written by save_pretrained, got \./nowhere, which there is not"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_unknown_one_is_refused_before_anything_is_run(self, place, tmp_path, change, expected):
        assert re.search(expected, evaluate(tmp_path, **change), re.DOTALL)
        assert not (tmp_path / "run" / "records.jsonl").exists()


class TestFolders:
    def test_cache_below_a_file(self, place, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("mine")
        monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "file" / "cache"))
        assert re.search("Expected a folder to write to, got .*file/cache.*name another", evaluate(tmp_path))

    def test_overwrite_deletes_the_run_alone_once_another_begins(self, place, tmp_path):
        def run(*options):
            command = ["evaluate", "--config", config(tmp_path, arms={"base": BASE}), "--out", tmp_path / "run"]
            return CliRunner().invoke(app, [*map(str, command), *options])

        assert run().exit_code == 0
        (tmp_path / "run" / "notes.txt").write_text("mine")
        with untouched(tmp_path / "run"):
            assert "nowhere.jsonl" in run("--overwrite", "--set", "datasets.0.questions=nowhere.jsonl").stderr
        assert run("--set", "seed=1", "--overwrite").exit_code == 0
        assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["seed"] == 1
        assert {row["seed"] for row in rows_in(tmp_path / "run")} == {1}
        assert (tmp_path / "run" / "notes.txt").read_text() == "mine"

    def test_report_of_no_run(self, place, tmp_path):
        """What is said to be done can be done: of one run this command takes no --out, and no --overwrite at all."""
        told = [refused("report", tmp_path)]
        for text in ("{", "{}"):
            (tmp_path / "config.json").write_text(text)
            told.append(refused("report", tmp_path))
        run = ["evaluate", "--config", config(tmp_path, arms={"base": BASE}), "--out", tmp_path / "run"]
        assert CliRunner().invoke(app, [*map(str, run)]).exit_code == 0
        (tmp_path / "run" / "summary.json").unlink()
        with held(tmp_path / "run"):
            told.append(refused("report", tmp_path / "run"))
        said = "a run folder (with config.json)", "config.json: expected JSON", "config.json: expected a run's hash"
        assert [part in told_of for part, told_of in zip((*said, "is writing to it"), told, strict=True)] == [True] * 4
        assert "--" not in "".join(told), told


class TestRouting:
    @pytest.mark.parametrize(
        ("selector", "expected"),
        [
            ({"name": "fixed", "n": 4, "experts": 5}, "Expected at most 3 layers .*, got 4; ask for fewer"),
            ({"name": "random", "n": 2, "experts": 9}, "Expected at most 8 experts .*, got 9; ask for fewer"),
            ({"name": "fixed", "layers": [0, 7], "experts": 5}, r"Expected layers among .*\(0, 1, 2\), got \[7\]"),
        ],
        ids=lambda value: f"{value['name']}" if isinstance(value, dict) else "",
    )
    def test_more_layers_or_experts_than_there_are(self, place, tmp_path, selector, expected):
        message = evaluate(tmp_path, arms={"base": BASE, "x": {"selector": selector}})
        assert re.search(f"Arm x: {expected}", message)
        assert not (tmp_path / "run").exists(), "it is found out before anything is run"

    @pytest.mark.parametrize(("given", "wrong"), [
        (("Is it?", ["yes", "no"], 0), r"question \['yes', 'no'\], choices 0"),
        ((3, "Is it?", ("yes", "no")), "id 3"),
        (("q", "Is it?", "yes"), "choices 'yes'"),
        (("q", "Is it?", ("yes", None)), r"choices \('yes', None\)"),
        (("q", "Is it?", ("yes", "no"), "no"), "answer 'no'"),
    ])  # fmt: skip
    def test_question_with_values_in_each_others_places(self, given, wrong):
        with pytest.raises(DataError, match=rf'as Question\("boat", .*got {wrong}\.'):
            Question(*given)

    @pytest.mark.parametrize("answer", [5, 2, -1])
    def test_question_whose_answer_is_none_of_its_choices(self, answer):
        said = f"Question 'q': expected answer to be an index from 0 to 1, got {answer}; correct it"
        with pytest.raises(DataError, match=said):
            Question("q", "Which floats?", ("a stone", "a boat"), answer)


PLUGIN = '''
from dataclasses import dataclass
from typing import ClassVar
import torch
from c3po_adaptive import LayerSelector, PathwayOptimizer, Kernel, Retriever, hookimpl

@dataclass(frozen=True)
class Broken(PathwayOptimizer):
    """Fails."""
    name: ClassVar[str] = "broken"
    def optimize(self, problem):
        raise RuntimeError("optimizer fell over")

@dataclass(frozen=True)
class BrokenSelector(LayerSelector):
    """Fails."""
    name: ClassVar[str] = "broken-selector"
    def select(self, problem):
        raise RuntimeError("selector fell over")

@dataclass(frozen=True)
class BrokenKernel(Kernel):
    """Fails."""
    name: ClassVar[str] = "broken-kernel"
    def __call__(self, x, y):
        raise RuntimeError("kernel fell over")

@dataclass(frozen=True)
class BrokenRetriever(Retriever):
    """Fails."""
    name: ClassVar[str] = "broken-retriever"
    def fit(self, vectors):
        raise RuntimeError("retriever fell over")

@hookimpl
def register_optimizers():
    return [Broken]

@hookimpl
def register_kernels():
    return [BrokenKernel]

@hookimpl
def register_retrievers():
    return [BrokenRetriever]

@hookimpl
def register_layer_selectors():
    return [BrokenSelector]
'''


class TestPlugins:
    @pytest.mark.parametrize(
        ("arm", "expected"),
        [
            ({"optimizer": "broken"}, "optimizer 'broken'"),
            ({"selector": "broken-selector"}, "selector 'broken-selector'"),
            ({"kernel": "broken-kernel"}, "kernel 'broken-kernel'"),
            ({"retriever": "broken-retriever"}, "retriever 'broken-retriever'"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_that_raises_in_the_run_is_named(self, place, tmp_path, arm, expected):
        arms = {"base": BASE, "x": {"selector": SMALL} | arm}
        (tmp_path / "broken.py").write_text(PLUGIN)
        message = evaluate(tmp_path, "--plugin", tmp_path / "broken.py", "--unchecked", arms=arms)
        assert re.search(
            rf"Expected {expected} to work, got RuntimeError in \w+ at \S*broken.py:\d+: \w+ fell over; correct",
            message,
        )
        assert len((tmp_path / "run" / "records.jsonl").read_text().splitlines()) == 4, "base is kept"
