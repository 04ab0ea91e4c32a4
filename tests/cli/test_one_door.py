"""Questions and references from wherever they are, by every command; close names of whatever is misspelt."""

import json

import pytest
import yaml
from cli.test_cli import SMALL, call, place  # noqa: F401 (a fixture)
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.cli.demo import QUESTIONS, REFERENCES
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.study.arms import DEMO
from c3po_adaptive.study.kinds import read_study

pytestmark = pytest.mark.usefixtures("undrawn")
BARE = ("question", "choices", "answer")
ARMS = {"base": {"optimizer": "none"}, "ngd": {"optimizer": {"name": "ngd", "steps": 1}, "selector": SMALL}}


@pytest.fixture(scope="module")
def sources(place):  # noqa: F811
    """Every kind of source of the same questions, by what it is."""
    rows = {
        name: [json.loads(line) for line in (place / f"{name}.jsonl").read_text().splitlines()]
        for name in ("references", "test")
    }
    (place / "bench").mkdir()
    for name, split in (("references", "train"), ("test", "test")):
        bare = [{k: row[k] for k in BARE} for row in rows[name]]
        (place / "bench" / f"colors.{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in bare))
        (place / f"bare_{name}.json").write_text(json.dumps(bare))
    call("refset", "build", "references.jsonl", "--model", "model", "--out", "builtset")
    return {"file": "references.jsonl", "bare": "bare_references.json", "folder": "bench", "benchmark": "colors",
            "of a split": "bench:train", "set": "builtset"}  # fmt: skip


@pytest.fixture
def seen(monkeypatch):
    """Configurations that the demo would run."""
    found, at = [], "c3po_adaptive.cli.demo"
    monkeypatch.setattr(f"{at}.carried_out", lambda kind, config, *rest: found.append(config))
    monkeypatch.setattr("c3po_adaptive.study.comparison.ComparisonStudy.table", lambda study, summary: None)
    for name in ("show", "tell_failed", "_tell"):
        monkeypatch.setattr(f"{at}.{name}", lambda *parts, **more: None)
    return found


@pytest.fixture
def data(place, monkeypatch):  # noqa: F811
    monkeypatch.setenv("C3PO_DATA", str(place / "bench"))


SOME = ("benchmark", "of a split", "set")


def refused(*args):
    """A command that must fail before a model is loaded, with one message; that."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("c3po_adaptive.models.loading.load_moe_model", "c3po_adaptive.study.data.load_moe_model"):
            patch.setattr(name, lambda *a, **k: pytest.fail("a model was loaded"))
        result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == 1, (result.output, result.exception)
    assert result.stderr.count("error: ") == 1
    return result.stderr


@pytest.mark.usefixtures("data")
class TestReferences:
    @pytest.mark.parametrize("kind", SOME)
    def test_of_a_study(self, sources, tmp_path, kind):
        asked = {"name": "t", "questions": "colors", "references": [sources[kind]]}
        config = {"model": "model", "datasets": [asked], "arms": ARMS}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        call("evaluate", "--config", tmp_path / "run.yaml", "--out", tmp_path / "run")
        found = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert [(row["arm"], row["n"], row["split"]) for row in found["rows"]] == [
            ("base", 4, "test"),
            ("ngd", 4, "test"),
        ]

    @pytest.mark.parametrize("kind", ["file", "bare", "folder", "benchmark", "of a split"])
    def test_of_a_set(self, sources, tmp_path, kind):
        assert call("refset", "build", sources[kind], "--model", "model", "--out", tmp_path / "set").startswith("20 ")

    @pytest.mark.parametrize("kind", SOME)
    def test_of_an_explanation(self, sources, kind):
        arm = ("--arm", "ngd", "--set", "selector.n=2", "--set", "optimizer.steps=1")
        told = call(
            "explain", "Is it?", "--choice", "a", "--choice", "b", "--model", "model", "--refset", sources[kind], *arm
        )
        assert "neighbours: 3" in told

    def test_a_built_set_is_used_itself(self, sources, tmp_path, monkeypatch):
        """With all that is kept beside it: nothing is run again."""
        monkeypatch.setattr("c3po_adaptive.study.worker.reference_set_of", lambda *a, **k: pytest.fail("built again"))
        call("demo", "--model", "model", "--questions", "bare_test.json", "--references", "builtset", "--arm", "ngd",
             "--out", tmp_path / "run")  # fmt: skip
        rows = [json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
        ids = {q.id for q in ReferenceSet.load("builtset").questions}
        assert {n["id"] for r in rows if r["arm"] == "ngd" for n in r["neighbours"]} <= ids
        assert {r["id"] for r in rows} == {f"bare_test.{i}" for i in range(4)}

    def test_part_of_a_built_set_is_built(self, sources, tmp_path):
        asked = {"name": "t", "questions": "test.jsonl", "references": ["builtset"], "references_limit": 15}
        config = {"model": "model", "datasets": [asked], "arms": ARMS}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        assert "4 questions, 15 references" in call("study", "plan", tmp_path / "run.yaml")


@pytest.mark.usefixtures("sources", "data")
class TestDemo:
    def test_seed_split_and_minutes(self, tmp_path):
        options = ["--model", "model", "--references", "bench", "--arm", "ngd-random-neighbours"]
        options += ["--questions", "colors", "--split", "test", "--seed", "7"]
        command = ["demo", *options, "--out", tmp_path / "r", "--minutes", "0"]
        ended = CliRunner().invoke(app, [str(a) for a in command])
        assert ended.exit_code == 3 and "the same command resumes from here" in ended.output
        assert not (tmp_path / "r" / "summary.json").exists()
        command[command.index("--minutes") + 1] = "5"
        call(*command)
        found = json.loads((tmp_path / "r" / "summary.json").read_text())
        assert found["seed"] == found["config"]["seed"] == 7
        assert {row["setting"].get("retriever", {}).get("name") for row in found["rows"]} >= {"random"}
        assert [(row["arm"], row["n"]) for row in found["rows"]] == [("base", 4), ("ngd-random-neighbours", 4)]
        assert {row["dataset"] for row in found["rows"]} == {"colors"}

    def test_revision_reaches_the_configuration(self, seen, tmp_path):
        call("demo", "--revision", "abc", "--seed", "3", "--out", tmp_path / "run")
        assert (seen[0].revision, seen[0].seed, seen[0].datasets[0].split) == ("abc", 3, "test")
        assert all(arm.seed == 3 for arm in seen[0].arms.values()), "of all arms"

    def test_settings_come_over_all_that_it_would_run(self, seen, tmp_path):
        settings = ("arms.ngd.optimizer.steps=3", "arms.ngd.retriever=random", "batch_size=2", "datasets.0.limit=5")
        given = [word for setting in settings for word in ("--set", setting)]
        call("demo", "--arm", "ngd", "--arm", "oracle", "--limit", 9, *given, "--out", tmp_path / "run")
        (config,) = seen
        assert config.arms["ngd"].optimizer == {"name": "ngd", "steps": 3}
        assert config.arms["ngd"].retriever == "random"
        assert (config.batch_size, config.datasets[0].limit) == (2, 5)

    def test_a_split_of_the_demos(self, seen, tmp_path):
        call("demo", "--split", "validation", "--out", tmp_path / "run")
        call("demo", "--questions", "demo:validation", "--out", tmp_path / "run")
        assert [(c.datasets[0].name, c.datasets[0].split) for c in seen[1:]] == [("demo", "validation"), ("demo", None)]

    def test_of_no_model_it_is_on_two(self, seen, tmp_path):
        call("demo", "--limit", 56, "--out", tmp_path / "run")
        assert [c.model for c in seen] == ["smollm2-moe-merged", "smollm2-moe"]
        assert {(c.datasets[0].limit, c.datasets[0].references_limit) for c in seen} == {(56, 120)}
        assert {*seen[1].arms} < {*seen[0].arms} and all(seen[0].arms[n] == arm for n, arm in seen[1].arms.items())
        seen.clear()
        call("demo", "--all", "--out", tmp_path / "run")
        assert {(c.datasets[0].limit, c.datasets[0].references_limit) for c in seen} == {(112, REFERENCES)}
        assert list(seen[0].arms) == list(seen[1].arms) == list(DEMO["arms"])
        assert (DEMO["datasets"][0]["limit"], DEMO["datasets"][0]["references_limit"]) == (QUESTIONS, REFERENCES)


class TestSplits:
    def test_a_file_without_any_needs_no_null(self, place, tmp_path):  # noqa: F811
        asked = {"name": "t", "questions": "test.jsonl", "references": ["references.jsonl"]}
        config = {"model": "model", "datasets": [asked], "arms": {"base": ARMS["base"]}}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        assert read_study(tmp_path / "run.yaml")[1].datasets[0].split is None
        assert "4 questions" in call("study", "plan", tmp_path / "run.yaml")
        assert "its questions name no split" in refused(
            "study", "plan", tmp_path / "run.yaml", "--set", "datasets.0.split=test"
        )

    def test_one_id_of_two_questions_is_refused(self, place, tmp_path):  # noqa: F811
        """Ids are made from files' names: a question would leave out another one among the references."""
        for folder, text in (("a", "Is it?"), ("b", "Was it?")):
            (tmp_path / folder).mkdir()
            row = {"question": text, "choices": ["x", "y"], "answer": "x"}
            (tmp_path / folder / "facts.jsonl").write_text(json.dumps(row))
        of = ("--questions", tmp_path / "a" / "facts.jsonl", "--references", tmp_path / "b" / "facts.jsonl")
        said = refused("demo", *of, "--model", "model", "--out", tmp_path / "run")
        assert "got 'facts.0' of two, 'Is it?' and, among the references, 'Was it?'" in said


MISSPELT = {
    "demo": (("demo", "--questions", "dmo"), "'demo'"),
    "file": (("demo", "--questions", "tets.jsonl"), "'test.jsonl'"),
    "split of the demo": (("demo", "--split", "validatoin"), "'validation'"),
    "split by its source": (("refset", "build", "demo:refrences", "--out", "OUT"), "'references'"),
    "split of files": (("demo", "--questions", "bench:tets"), "'test'"),
    "arm": (("demo", "--arm", "nearst"), "'nearest'"),
    "arm of an explanation": (("explain", "x", "--arm", "oracel"), "'oracle'"),
    "arm of a comparison": (("study", "plan", "RUN", "--set", "headline=ngdd"), "'ngd'"),
    "strategy": (("study", "plan", "RUN", "--set", "arms.ngd.selector.name=attributon"), "'attribution'"),
    "strategy shown": (("plugins", "show", "kernel-regresion"), "'kernel-regression'"),
    "parameter": (("study", "plan", "RUN", "--set", "arms.ngd.optimizer.stps=2"), "'steps'"),
    "parameter of a demo": (("demo", "--arm", "ngd", "--set", "arms.ngd.optimizer.stps=2"), "'steps'"),
    "setting": (("study", "plan", "RUN", "--set", "batch_sise=2"), "'batch_size'"),
    "of an evaluation": (("evaluate", "--config", "RUN", "--out", "OUT", "--set", "batch_sise=2"), "'batch_size'"),
    "setting of an arm": (("explain", "x", "--set", "lern_from=all"), "'learn_from'"),
    "setting of a data set": (("study", "plan", "RUN", "--set", "datasets.0.limt=2"), "'limit'"),
    "kind": (("study", "plan", "RUN", "--set", "kind=comparson"), "'comparison'"),
    "format": (("demo", "--format", "close"), "'cloze'"),
    "format of a set": (("refset", "build", "test.jsonl", "--out", "OUT", "--format", "leter"), "'letter'"),
    "format of an explanation": (("explain", "x", "--format", "Letter"), "'letter'"),
}
ALIASES = {
    "shown": ("models", "OLMoe"),
    "of a demo": ("demo", "--model", "olmoe-instruct", "--out", "OUT"),
    "of a set": ("refset", "build", "test.jsonl", "--model", "OLMOE", "--out", "OUT"),
    "of a plan": ("study", "plan", "RUN", "--set", "model=olmoe"),
}


@pytest.mark.usefixtures("sources")
class TestMisspelt:
    """Each name at each door, before a model is loaded."""

    @staticmethod
    def filled(command, tmp_path):
        config = {"model": "model", "datasets": [{"name": "t", "questions": "test.jsonl"}], "arms": ARMS}
        if "kind=" in command[-1]:  # what says the kind is read first
            config["kind"] = command[-1].partition("=")[2]
            command = command[:-2]
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        places = {"OUT": tmp_path / "out", "RUN": tmp_path / "run.yaml"}
        out = ("--out", tmp_path / "out") if command[0] == "demo" and "--out" not in command else ()
        return *(places.get(word, word) for word in command), *out

    @pytest.mark.parametrize(("command", "meant"), MISSPELT.values(), ids=MISSPELT)
    def test_a_close_name_is_suggested(self, tmp_path, command, meant):
        assert f"did you mean {meant}" in refused(*self.filled(command, tmp_path))
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("command", ALIASES.values(), ids=ALIASES)
    def test_aliases(self, tmp_path, command):
        result = CliRunner().invoke(app, [str(a) for a in self.filled(command, tmp_path)])
        assert result.exit_code == 1
        assert "did you mean 'OLMoE" in result.stderr


def test_refused_before_the_model_is_loaded(place, tmp_path):  # noqa: F811
    """What can be known before."""
    (tmp_path / "empty").mkdir()
    refused("explain", "x", "--refset", tmp_path / "empty")
    assert "got 'x'" in refused("explain", "x", "--arm", "ngd", "--set", "optimizer.step=x")
    (tmp_path / "taken").write_text("mine")
    assert "exists" in refused("refset", "build", "test.jsonl", "--out", tmp_path / "taken")
    assert "the file " in refused("demo", "--arm", "base", "--out", tmp_path / "taken")
    call("demo", "--model", "model", "--arm", "base", "--limit", 2, "--out", tmp_path / "run")
    said = refused("demo", "--model", "model", "--arm", "base", "--limit", 3, "--out", tmp_path / "run")
    assert "they differ in datasets" in said
