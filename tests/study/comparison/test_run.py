"""Runs: interrupted anywhere they end the same, arms do not touch each other, labels stay hidden from methods."""

import json
import shutil
from functools import partial

import own_plugin
import pytest
from records.made import plain
from rounding import near
from study.configs import parse_config, registry_of, with_all_arms
from typer.testing import CliRunner

from c3po_adaptive.analysis.judging_rules import rules
from c3po_adaptive.answerers.remix import Remix
from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, PluginError, SettingError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.optimizers.ngd import NGD
from c3po_adaptive.records.jsonl import Records
from c3po_adaptive.records.parquet import read_parquet, read_with_model
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.registry import default_registry
from c3po_adaptive.remixing.remixer import Remixer
from c3po_adaptive.routing.generation import Written
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")
SMALL = {"name": "fixed", "n": 2, "experts": 5}
ARMS = {
    "base": {"optimizer": "none", "selector": {"name": "fixed", "n": 0}},
    "kernel-regression": {"optimizer": "kernel-regression", "selector": SMALL},
    "mode-finding": {"optimizer": "mode-finding", "selector": SMALL},
    "ngd": {"optimizer": {"name": "ngd", "steps": 3}, "selector": SMALL},
    "attribution": {"optimizer": {"name": "ngd", "steps": 3}, "selector": SMALL | {"name": "attribution"}},
    "random": {"optimizer": {"name": "ngd", "steps": 3}, "retriever": "random", "selector": SMALL},
    "random-layers": {"optimizer": {"name": "ngd", "steps": 3}, "selector": SMALL | {"name": "random"}},
    "oracle": {"optimizer": {"name": "oracle", "of": {"name": "ngd", "steps": 3, "lr": 0.1}}, "selector": SMALL},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, references and two files of test questions; the cache is in it too."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_tiny_checkpoint(folder / "model", "qwen2_moe")
    for name, count in (("references", 14), ("first", 7), ("second", 3)):
        rows = [
            {
                "id": f"{name}-{i}",
                "task": "sum",
                "question": f"How much is {i} and {len(name)}?",
                "choices": [str(i + len(name) + k) for k in range(2 + i % 2)],
                "answer": i % 2,
                "subject": "even" if i % 2 else "odd",
            }
            for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    many = [
        {"id": f"many-{i}", "task": "sum", "question": f"What is {i} less {i % 9}?",
         "choices": [str(i - i % 9), str(i + 1)], "answer": i % 2}
        for i in range(90)
    ]  # fmt: skip
    (folder / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield folder


close = partial(near, by=5e-4, rel=1e-6)
"""In a resumed run neighbours are prefilled in other company; scores have five digits, a calibration error is in points
of 100."""


def evaluate(*given, **how):
    """The summary as it stands in its file."""
    return plain(STUDY.run(*given, **how))


def config(*names, arms=ARMS, batch_size=3, seed=0):
    names = names or ("first",)
    datasets = [
        {"name": n, "questions": f"{n}.jsonl", "split": None, "references": ["references.jsonl"]} for n in names
    ]
    return parse_config({"model": "model", "datasets": datasets, "arms": arms, "batch_size": batch_size, "seed": seed})


def rows(folder):
    """Records without the time they took."""
    lines = (folder / "records.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def of(records, arm):
    return [r for r in records if r["arm"] == arm]


def rows_of(summary):
    """By data set and arm."""
    return {(r["dataset"], r["arm"]): r for r in summary["rows"]}


@pytest.fixture(scope="module")
def two(place):
    """The folder of a run on two data sets."""
    evaluate(config("first", "second"), place / "two")
    return place / "two"


@pytest.fixture(scope="module")
def whole(place):
    """The records and the summary of a run that nothing disturbed."""
    summary = evaluate(config(), place / "whole")
    return rows(place / "whole"), summary


def test_data_sets_are_asked_each_in_its_format(place, tmp_path):
    """References, too: they are run alike."""
    one = {"questions": "second.jsonl", "references": ["references.jsonl"]}
    formats = {"letters": "letter", "sums": {"normalize": "none"}, "usual": None}
    datasets = [one | {"name": name, "format": format} for name, format in formats.items()]
    arms = {name: ARMS[name] for name in ("base", "kernel-regression")}
    summary = evaluate(parse_config({"model": "model", "datasets": datasets, "arms": arms}), tmp_path)
    found = rows_of(summary)
    assert [found[name, "base"]["format"] for name in formats] == ["letters", "cloze by sum", "cloze by tokens"]
    assert not any(name == "all" for name, _ in found), "a mean would count each question three times"
    kinds = {tuple(tuple(r["scores"]) for r in of(rows(tmp_path), "base") if r["dataset"] == name) for name in formats}
    assert len(kinds) == 3


WRITING = {
    "base": ARMS["base"],
    "kernel-regression": ARMS["kernel-regression"],
    "ruled": {"answerer": {"name": "rule", "rule": "top-k:1"}, "optimizer": "none"},
}


def scored_twice(**arms):
    """By likelihood, and by what the model writes: the text of a choice, or its letter."""
    asked = {"questions": "second.jsonl", "references": ["references.jsonl"]}
    kinds = {"likely": {}, "texts": {"score": "generated"}, "letters": {"score": "generated", "format": "letter"}}
    datasets = [asked | own | {"name": name} for name, own in kinds.items()]
    return parse_config({"model": "model", "datasets": datasets, "arms": WRITING | arms})


@pytest.fixture(scope="module")
def written(place):
    """Such a run; the model writes the first choice along its own pathway, the second along any other, and nothing
    along a rule."""

    def write(model, prompts, routing):
        which = slice(0, 0) if callable(routing) else routing is not None
        texts = [model.tokenizer.decode(p.options[which]) for p in prompts]
        return [Written(text.strip(), model.plain_work(p)) for p, text in zip(prompts, texts, strict=True)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoutedModel, "_write", write)
        summary = evaluate(scored_twice(), place / "written")
    return place / "written", rows_of(summary), rows(place / "written")


class TestWritten:
    def test_what_is_written_counts(self, written):
        _, summary, records = written
        right = [r["answer"] for r in of(records, "base") if r["dataset"] == "texts"]
        for name, scored in (("texts", "text"), ("letters", "letter")):
            own = {arm: [r for r in of(records, arm) if r["dataset"] == name] for arm in WRITING}
            assert {r["chosen_by"] for arm in own.values() for r in arm} == {scored}
            assert {arm: {r["choice"] for r in own[arm]} for arm in ("base", "ruled")} == {"base": {0}, "ruled": {-1}}
            moved = [int(bool(r["layers"])) for r in own["kernel-regression"]]  # one has no neighbour
            assert any(moved)
            assert [r["choice"] for r in own["kernel-regression"]] == moved
            assert all(r["base_choice"] == 0 for arm in own.values() for r in arm)
            assert [r["correct"] for r in own["kernel-regression"]] == [
                a == b for a, b in zip(right, moved, strict=True)
            ]
            assert summary[name, "ruled"]["accuracy"] == 0
            assert summary[name, "base"]["accuracy"] == pytest.approx(100 * right.count(0) / len(right))
        assert {r["generated"] for r in of(records, "ruled")} == {None, ""}

    def test_scores_and_pathways_stay(self, written):
        _, _, records = written
        for arm in WRITING:
            likely, texts = ([r for r in of(records, arm) if r["dataset"] == name] for name in ("likely", "texts"))
            for one, other in zip(likely, texts, strict=True):
                assert one["generated"] is None
                assert one["choice"] == max(range(len(one["scores"])), key=one["scores"].__getitem__)
                for same in ("scores", "experts", "layers"):
                    assert close(other[same]) == one[same]
                assert other["cost"]["total"] > one["cost"]["total"]

    def test_nobody_guesses_a_text(self, written):
        _, summary, _ = written
        chances = [summary[name, "base"]["chance"] for name in ("likely", "texts", "letters")]
        assert chances == [pytest.approx(100 * (1 / 2 + 1 / 3 + 1 / 2) / 3), 0, chances[0]]

    def test_a_question_counts_once_in_the_mean(self, written):
        _, summary, _ = written
        assert ("likely", "base") in summary and ("all", "base") not in summary

    def test_a_page_has_both_side_by_side(self, written):
        out, summary, _ = written
        page = (out / "report.html").read_text()
        assert page.count("The same questions by likelihood and by what is generated") == 1
        assert "Table: likely beside texts" in page
        assert "Asked as cloze by tokens, generated." in page
        assert summary["letters", "base"]["format"] == "letters, generated"

    def test_an_arm_that_writes_nothing_is_refused(self, place, tmp_path):
        told = {"answerer": {"name": "told", "text": str(place / "references.jsonl")}, "optimizer": "none"}
        with pytest.raises(SettingError, match=r"Arm told: .*, such as remix, as texts has .*, got told"):
            evaluate(scored_twice(told=told), tmp_path / "run", registry=LEARNING)


def test_the_embedder_is_the_configurations(place):
    named = parse_config({"model": "model", "arms": ARMS, "embedder": "some/folder"})
    assert ComparisonWorker.here(named, default_registry()).embedder.name == "some/folder"
    assert ComparisonWorker.here(config(), default_registry()).embedder is default_embedder()


class TestInterruption:
    @pytest.mark.parametrize("kept", [1, 21, 58])
    def test_is_drawn_as_far_as_it_went(self, two, tmp_path, kept):
        """At an arm's boundary (7 answers each, then 3) and within one, with what is missing in its head."""
        out = shutil.copytree(two, tmp_path / "run")
        whole = rows_of(json.loads((out / "summary.json").read_text()))
        lines = (out / "records.jsonl").read_text().splitlines(keepends=True)
        assert len(lines) == 80
        (out / "records.jsonl").write_text("".join(lines[:kept]))
        for name in ("summary.json", "report.html", "records.parquet"):
            (out / name).unlink()
        for _ in range(2):  # what is not finished is summarized again
            result = CliRunner().invoke(app, ["report", str(out)])
            assert result.exit_code == 0, (result.output, result.exception)
            found = json.loads((out / "summary.json").read_text())
            assert found["missing"]
            page = (out / "report.html").read_text()
            assert all(f"<b>Not finished</b>: {what}." in page and what in result.stderr for what in found["missing"])
            records, model = read_with_model(out / "records.parquet")
            assert len(records) == kept
            assert model.hash == json.loads((out / "config.json").read_text())["config"]["inputs"]["model"]
        left = {key: row for key, row in rows_of(found).items() if key[0] != "all"}
        answered = [json.loads(line) for line in lines[:kept]]
        assert sum(r["n"] for r in left.values()) == kept
        for key, row in left.items():
            assert row["n"] == sum((r["dataset"], r["arm"]) == key for r in answered)
            if row["n"] == whole[key]["n"]:
                assert {k: row[k] for k in ("accuracy", "gain", "ci_low", "nll")} == {
                    k: whole[key][k] for k in ("accuracy", "gain", "ci_low", "nll")
                }

    def test_drawn_in_between_it_ends_as_ever(self, two, place, tmp_path):
        out = shutil.copytree(two, tmp_path / "run")
        lines = (out / "records.jsonl").read_text().splitlines(keepends=True)
        (out / "records.jsonl").write_text("".join(lines[:75]))
        (out / "summary.json").unlink()
        assert CliRunner().invoke(app, ["report", str(out)]).exit_code == 0
        assert json.loads((out / "summary.json").read_text())["missing"] == [
            "of 3 questions of second, random-layers answered 1, oracle answered none"
        ]
        summary = evaluate(config("first", "second"), out)
        assert summary["missing"] == []
        assert summary["rows"] == close(json.loads((two / "summary.json").read_text())["rows"])

    def test_without_its_questions_nobody_knows_how_many_are_missing(self, place, tmp_path):
        for name in ("asked", "references"):
            shutil.copy(place / ("second.jsonl" if name == "asked" else "references.jsonl"), tmp_path / f"{name}.jsonl")
        data = {"name": "t", "questions": str(tmp_path / "asked.jsonl")}
        evaluate(parse_config({"model": "model", "datasets": [data], "arms": {"base": ARMS["base"]}}), tmp_path / "run")
        (tmp_path / "run" / "summary.json").unlink()
        (tmp_path / "asked.jsonl").unlink()
        result = CliRunner().invoke(app, ["report", str(tmp_path / "run")])
        assert "ids instead of texts" in result.stderr
        assert "t may have more than 3 questions, for its source is not at hand" in result.stderr

    def test_without_the_base_nothing_can_be_drawn(self, place, whole, tmp_path):
        out = shutil.copytree(place / "whole", tmp_path / "run")
        (out / "summary.json").unlink()
        rows = [line for line in (out / "records.jsonl").read_text().splitlines() if '"arm":"base"' not in line]
        (out / "records.jsonl").write_text("\n".join(rows) + "\n")
        result = CliRunner().invoke(app, ["report", str(out)])
        assert result.exit_code == 1
        assert "Expected answers of the arm 'base'" in result.stderr

    def test_command_says_how_to_go_on(self, place, tmp_path, monkeypatch):
        def stop(self, row):
            if row is not None:
                append(self, row)
            raise KeyboardInterrupt

        append = Records.append
        monkeypatch.setattr(Records, "append", stop)
        options = ["--model", "model", "--references", "references.jsonl", "--limit", "2", "--arm", "base"]
        result = CliRunner().invoke(app, ["demo", *options, "--out", str(tmp_path / "run")])
        assert result.exit_code == 130
        assert "the same command resumes from here" in result.stderr
        monkeypatch.setattr(Records, "done", lambda self: stop(self, None))
        result = CliRunner().invoke(app, ["demo", *options, "--out", str(tmp_path / "run")])
        assert "the same command resumes from here" in result.stderr, "by the row that it found"

    def test_an_arm_that_fails_is_left_out_and_others_go_on(self, place, whole, tmp_path, monkeypatch):
        def fail(self, problem):
            raise RuntimeError("out of luck")

        with monkeypatch.context() as patch:
            patch.setattr("c3po_adaptive.optimizers.ngd.NGD.optimize", fail)
            summary = evaluate(config(), tmp_path / "run")
        there = {r["arm"] for r in summary["rows"]}
        assert there == {r["arm"] for r in rows(tmp_path / "run")} == ARMS.keys() - summary["failed"].keys()
        assert there == {"base", "kernel-regression", "mode-finding", "oracle"}
        said = summary["failed"]["ngd"]
        assert said.startswith("Arm ngd, question ")
        assert "optimizer 'ngd' to work, got RuntimeError in optimize at " in said
        assert said.endswith("out of luck; correct it, or choose another optimizer.")
        again = evaluate(config(), tmp_path / "run")
        for arm in ARMS:
            assert of(rows(tmp_path / "run"), arm) == close(of(whole[0], arm))
        assert again["failed"] == {}

    def test_answers_before_an_arm_failed_are_no_result(self, place, tmp_path, monkeypatch):
        first, calls = NGD.optimize, []

        def fails_later(self, problem):
            calls.append(len(problem.own))
            if sum(calls) > 3:
                raise RuntimeError("out of luck")
            return first(self, problem)

        arms = {name: ARMS[name] for name in ("base", "mode-finding", "ngd")}
        with monkeypatch.context() as patch:
            patch.setattr(NGD, "optimize", fails_later)
            summary = evaluate(config(arms=arms), tmp_path / "run")
        assert {r["arm"] for r in rows(tmp_path / "run")} == {*arms}, "they are kept, to go on from"
        assert {r["arm"] for r in summary["rows"]} == {"base", "mode-finding"}
        assert [*summary["failed"]] == ["ngd"]
        whole = evaluate(config(arms=arms), tmp_path / "whole")
        assert {r["arm"] for r in whole["rows"]} == {*arms}
        for command in ([tmp_path / "run"], [tmp_path / "run", tmp_path / "whole"]):
            result = CliRunner().invoke(app, ["report", *map(str, command), "--json"])
            assert result.exit_code == 0, result.output
            found = json.loads(result.stdout)
            assert {r["arm"] for r in found["rows"]} == {"base", "mode-finding"}

    def test_a_base_that_fails_ends_the_run(self, place, tmp_path, monkeypatch):
        def fail(self, problem):
            raise RuntimeError("out of luck")

        monkeypatch.setattr("c3po_adaptive.optimizers.none.NoStep.optimize", fail)
        with pytest.raises(PluginError, match=r"Arm base, question .*out of luck"):
            evaluate(config(), tmp_path / "run")


class TestArms:
    def test_are_what_they_are_whichever_ran_before(self, place, whole, tmp_path):
        evaluate(config(arms=dict(reversed(ARMS.items()))), tmp_path / "run", model=load_moe_model(place / "model"))
        for arm in ARMS:
            assert of(rows(tmp_path / "run"), arm) == close(of(whole[0], arm))

    def test_only_the_oracle_sees_labels(self, place, whole, tmp_path):
        asked = [json.loads(line) for line in (place / "first.jsonl").read_text().splitlines()]
        other = [q | {"answer": 1 - q["answer"]} for q in asked]
        (tmp_path / "first.jsonl").write_text("".join(json.dumps(q) + "\n" for q in other))
        changed = config().model_copy(
            update={
                "datasets": (config().datasets[0].model_copy(update={"questions": str(tmp_path / "first.jsonl")}),),
            }
        )
        evaluate(changed, tmp_path / "run")
        found = rows(tmp_path / "run")
        for arm in ARMS:
            same = [r["scores"] for r in of(found, arm)] == close([r["scores"] for r in of(whole[0], arm)])
            assert same == (arm != "oracle")

    def test_methods_stay_in_their_selection_and_budget(self, whole):
        for record in whole[0]:
            assert len(record["layers"]) <= (0 if record["arm"] == "base" else 2)
            assert record["experts"].keys() == record["pathway"].keys() == {str(i) for i in record["layers"]}
        assert all(r["layers"] == [1, 2] for r in of(whole[0], "oracle"))

    def test_records_say_which_weights_rose(self, whole):
        for record in whole[0]:
            assert record["raised"].keys() == record["experts"].keys()
            for layer, ids in record["experts"].items():
                own, new = (record["pathway"][layer][side] for side in ("own", "new"))
                change = {e: new.get(str(e), 0) - own.get(str(e), 0) for e in ids}
                assert {e for e in ids if change[e] > 0} <= set(record["raised"][layer]) <= set(ids)
                assert not {e for e in ids if change[e] < 0} & set(record["raised"][layer])


def far(draws):
    """Arms of which one is drawn."""
    drawn = {"optimizer": "kernel-regression", "retriever": "random", "selector": SMALL, "draws": draws}
    return {"base": ARMS["base"], "far": drawn}


@pytest.fixture(scope="module")
def drawn(place):
    """The records and the summary of a run with three draws."""
    summary = evaluate(config(arms=far(3)), place / "drawn")
    return rows(place / "drawn"), summary


class TestShared:
    def test_arms_are_asked_the_same_questions_in_turn(self, whole):
        """So that the model has their states at hand, however few it has room for."""
        asked = [record["id"] for record in whole[0]]
        batches = [[f"first-{i}" for i in range(k, min(k + 3, 7))] for k in (0, 3, 6)]
        assert asked == [id_ for batch in batches for _ in ARMS for id_ in batch]

    @pytest.fixture
    def made(self, monkeypatch):
        """Benches that arms were prepared from."""
        benches, prepare = [], Remix.prepare
        monkeypatch.setattr(Remix, "prepare", lambda self, bench: benches.append(bench) or prepare(self, bench))
        return benches

    def test_one_pool_prepares_an_arm_once(self, place, tmp_path, monkeypatch, made):
        pooled = config("first", "second", arms={k: ARMS[k] for k in ("base", "ngd")})
        evaluate(pooled, tmp_path / "run")
        assert len(made) == 2
        monkeypatch.setattr(ComparisonWorker, "_taught", {"first": "first", "second": "second"})
        evaluate(pooled, tmp_path / "each")
        assert len(made) == 2 + 4
        assert rows(tmp_path / "each") == close(rows(tmp_path / "run"))

    def test_not_if_questions_are_among_the_references_of_one(self, place, tmp_path, made):
        evaluate(config("first", "references", arms={k: ARMS[k] for k in ("base", "ngd")}), tmp_path / "run")
        assert len(made) == 4


class TestDraws:
    """An arm that is drawn several times: by the next seed each time, in one row of the summary."""

    def test_each_is_the_run_of_its_seed(self, place, drawn, tmp_path):
        found = of(drawn[0], "far")
        assert {(r["seed"], r["id"]) for r in found} == {(s, f"first-{i}") for s in range(3) for i in range(7)}
        assert len(found) == 21
        assert {r["seed"] for r in of(drawn[0], "base")} == {0}
        evaluate(config(arms=far(1), seed=2), tmp_path / "run")
        alone = of(rows(tmp_path / "run"), "far")
        assert [r["scores"] for r in alone] == close([r["scores"] for r in found if r["seed"] == 2])
        assert len({json.dumps(r["neighbours"]) for r in found if r["id"] == "first-1"}) > 1

    def test_they_are_one_row(self, drawn):
        base, row = drawn[1]["rows"]
        assert (base["draws"], row["draws"], row["n"]) == (1, 3, 7)
        right = [r["correct"] for r in of(drawn[0], "far")]
        assert row["accuracy"] == pytest.approx(100 * sum(right) / 21)
        assert len(drawn[1]["comparisons"]) == 1


CONTROLS = ("shuffled labels", "random neighbours", "random change", "random layers")


class TestControls:
    """Arms that get their controls; ``plugins/baselines`` runs them."""

    def test_of_a_re_mixing_arm(self):
        arms = {"base": ARMS["base"], "method": {"optimizer": {"name": "ngd", "steps": 2}, "selector": SMALL}}
        given = config(arms=arms).model_dump(mode="json") | {"arms": arms, "controlled": ["method"]}
        parsed = with_all_arms(given)
        own, shared = [f"method, {control}" for control in CONTROLS], ["constant", "calibrated", "core mixed"]
        assert [*parsed.arms] == ["base", "method", *own, "method, oracle", *shared]
        assert with_all_arms(parsed.model_dump(mode="json")) == parsed, "what is there already is not made again"

    def test_the_oracle_is_the_arm_with_its_label_known(self):
        """Rate, steps and rule, loss, scope and selection are the arm's: by others it would bound another arm."""
        arms = {
            "base": {"optimizer": "none"},
            "near": {"optimizer": {"name": "ngd", "lr": 0.02, "steps": 4, "step": "sgd"}, "scope": "last"},
            "all": {"optimizer": {"name": "amortized-ngd", "lr": 0.1}, "selector": SMALL, "loss": "lead"},
            "mean": {"optimizer": "kernel-regression"},
        }
        made = with_all_arms({"model": "model", "arms": arms, "controlled": ["near", "all", "mean"]}).arms
        assert "mean, oracle" not in made, "it takes no steps"
        for name in ("near", "all"):
            own, bound = made[name].model_dump(), made[f"{name}, oracle"].model_dump()
            assert bound.pop("optimizer") == {"name": "oracle", "of": own.pop("optimizer")}
            assert bound == own, "and it is no control"

    def test_one_change_for_all_is_by_the_steps_of_each_arm(self):
        """By another's it would be a control of that one alone."""
        gently, boldly = ({"optimizer": {"name": "amortized-ngd", "lr": lr}} for lr in (0.01, 0.1))
        arms = {"base": {"optimizer": "none"}, "one": gently, "two": boldly, "three": boldly}
        given = {"model": "model", "arms": arms, "controlled": ["one", "two", "three"]}
        made = with_all_arms(given).arms
        assert made["constant"].optimizer["lr"] == 0.01
        assert made["two, constant"].optimizer["lr"] == 0.1
        assert not {"one, constant", "three, constant"} & made.keys()
        mine = {"constant": {"optimizer": {"name": "constant", "lr": 0.1}}}
        made = with_all_arms(given | {"arms": arms | mine}).arms
        assert {"one, constant", "two, constant", "three, constant"} & made.keys() == {"one, constant"}

    @pytest.mark.parametrize(
        ("selector", "random"),
        [
            ({"name": "fixed", "layers": [0, 1], "experts": None}, {"name": "random", "n": 2, "experts": None}),
            ({"name": "fixed", "layers": "all"}, None),
            ("fixed", {"name": "random", "n": 5, "experts": 20}),
            ({"name": "gradient", "n": None}, None),
        ],
    )
    def test_random_layers_are_as_many(self, selector, random):
        """None of an arm that takes all of them, or as many as each question asks for."""
        arms = {"base": {"optimizer": "none"}, "method": {"selector": selector}}
        made = with_all_arms({"model": "model", "arms": arms, "controlled": ["method"]}).arms
        assert (made["method, random layers"].selector if "method, random layers" in made else None) == random

    def test_of_other_answerers(self):
        vote = {"answerer": "knn-label", "retriever": {"name": "random", "k": 5}}
        arms = {"base": {"optimizer": "none"}, "vote": vote}
        made = with_all_arms({"model": "model", "arms": arms, "controlled": ["vote"]}).arms
        assert [*made] == ["base", "vote", "vote, shuffled labels", "constant", "calibrated", "core mixed"]
        assert made["vote, shuffled labels"].answerer == "knn-label"
        assert made["constant"].answerer == "remix"


class TestNamedBeforehand:
    """What a configuration says of a comparison: whether it is primary, and what its unit is."""

    def given(self, **entry):
        arms = {name: ARMS[name] for name in ("base", "kernel-regression", "mode-finding")}
        pair = {"a": "kernel-regression", "b": "base", **entry}
        return config(arms=arms).model_dump() | {"compare": [["mode-finding", "base"], pair]}

    def test_of_a_run(self, place, tmp_path):
        lines = (place / "first.jsonl").read_text().splitlines()
        kinds = [json.dumps(json.loads(line) | {"subject": f"kind {i % 3}"}) for i, line in enumerate(lines)]
        (tmp_path / "kinds.jsonl").write_text("\n".join(kinds))
        data = [{"name": "kinds", "questions": str(tmp_path / "kinds.jsonl"), "references": ["references.jsonl"]}]
        parsed = parse_config(self.given(primary=True, unit="kind") | {"datasets": data})
        assert parse_config(parsed.model_dump(mode="json")) == parsed
        summary = evaluate(parsed, tmp_path / "run")
        found = {(c["a"], c["unit"]): c for c in summary["comparisons"] if c["b"] == "base"}
        assert {key: (c["primary"], c["kinds"]) for key, c in found.items()} == {
            ("kernel-regression", "question"): (False, None),
            ("mode-finding", "question"): (False, None),
            ("kernel-regression", "kind"): (True, 3),
        }
        assert "kernel-regression beside base, as the mean over 3 kinds" in (tmp_path / "run/report.html").read_text()

    def test_questions_of_one_kind_are_refused_before_anything_is_run(self, place, tmp_path):
        lines = [json.loads(line) | {"subject": "one"} for line in (place / "first.jsonl").read_text().splitlines()]
        (tmp_path / "one.jsonl").write_text("\n".join(map(json.dumps, lines)))
        data = [{"name": "one", "questions": str(tmp_path / "one.jsonl"), "references": ["references.jsonl"]}]
        with pytest.raises(SettingError, match=r"of several kinds, which unit: kind resamples, got 1; give questions"):
            evaluate(parse_config(self.given(unit="kind") | {"datasets": data}), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"primry": True}, r"compare\.1\.mapping\.primry: an unknown key; did you mean 'primary'"),
            ({"unit": "kinds"}, r"compare\.1\.mapping\.unit: Input should be 'question' or 'kind', not 'kinds'"),
            ({"b": "absent"}, r"compare, controlled and control_of to name arms, got absent"),
        ],
    )
    def test_what_it_cannot_say(self, entry, message):
        with pytest.raises(SettingError, match=message):
            parse_config(self.given(**entry))


def test_a_run_that_was_judged_by_other_rules_says_so(place, whole, tmp_path):
    out = shutil.copytree(place / "whole", tmp_path / "run")
    assert f"Judged by rules {rules()}." in (out / "report.html").read_text()
    assert "rules changed" not in CliRunner().invoke(app, ["report", str(out)]).output
    kept = (out / "summary.json").read_text()
    (out / "summary.json").write_text(kept.replace(rules(), "0123456789ab"))
    said = CliRunner().invoke(app, ["report", str(out)]).output
    assert " ".join(said.split()).count("rules changed since: its verdicts were made by rules 0123456789ab") == 1


def test_records_that_changed_are_summed_up_again(place, whole, tmp_path):
    """Of those that are as they were, by other rules perhaps, the summary stays."""
    out = shutil.copytree(place / "whole", tmp_path / "run")
    kept, path = (out / "summary.json").read_bytes(), out / "records.jsonl"
    assert "records changed" not in CliRunner().invoke(app, ["report", str(out)]).output
    assert (out / "summary.json").read_bytes() == kept
    changed = [json.loads(line) for line in path.read_text().splitlines()]
    for record in changed:
        record["scores"] = [x * (9 if record["arm"] == "ngd" else 1) for x in record["scores"]]
    path.write_text("".join(json.dumps(record) + "\n" for record in changed))
    for said in (True, False):
        done = CliRunner().invoke(app, ["report", str(out)])
        assert done.exit_code == 0, done.output
        assert ("records changed since they were summed up" in done.stderr) == said
    before, after = (rows_of(json.loads(text)) for text in (kept, (out / "summary.json").read_bytes()))
    assert [arm for arm in before if before[arm]["nll"] != after[arm]["nll"]] == [arm for arm in before if "ngd" in arm]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "unknown"}, "which is not in the data"),
        ({"answer": 1, "correct": False}, "with the right answer 1, which is 0"),
        ({"choice": 1, "correct": False}, "has not the highest score"),
    ],
)
def test_rows_that_the_data_contradict_are_not_gone_on_with(place, whole, tmp_path, changes, said):
    out = shutil.copytree(place / "whole", tmp_path / "run")
    (out / "summary.json").unlink()
    path = out / "records.jsonl"
    first, *rest = path.read_text().splitlines()
    row = json.loads(first)
    path.write_text("\n".join([json.dumps(row | changes), *rest[:-1]]) + "\n")
    with pytest.raises(DataError, match=said):
        evaluate(config(), out)


def test_a_run_of_the_model_set_otherwise_is_not_gone_on_with(place, whole, tmp_path):
    out, path = shutil.copytree(place / "whole", tmp_path / "run"), place / "model" / "config.json"
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text) | {"rms_norm_eps": 1e-3}))
    try:
        with pytest.raises(DataError, match=r"differ in inputs\.settings"):
            evaluate(config(), out)
    finally:
        path.write_text(text)


class TestRecords:
    def test_labels_and_parameters(self, whole):
        """What an arm learned from, as it was asked for; nothing here trains parameters."""
        assert {r["labels"] for r in of(whole[0], "base")} == {0}
        assert {r["labels"] for r in of(whole[0], "ngd")} == {14}
        assert {r["parameters"] for r in whole[0]} == {0}

    def test_costs_add_up(self, whole):
        for r in whole[0]:
            parts = sum(v for k, v in r["flops"].items() if k != "total")
            assert r["flops"]["total"] == pytest.approx(parts, rel=1e-6)
            assert r["cost"]["total"] == pytest.approx(r["flops"]["total"] / r["flops"]["prefill"], abs=1e-3)

    def test_neighbours_and_their_settings_are_named_where_there_are_some(self, whole):
        assert all(r["neighbours"] == [] and "retriever" not in r["setting"] for r in of(whole[0], "base"))
        for r in of(whole[0], "ngd"):
            assert sum(n["weight"] for n in r["neighbours"]) == pytest.approx(1, abs=1e-3)
            assert r["setting"]["retriever"]["name"] == "faiss-knn"


def test_core_experts_mixed_without_a_step_are_no_baseline(place, tmp_path):
    arms = {
        "core": {"optimizer": {"name": "none", "start": "core"}, "selector": SMALL},
        "plain": {"optimizer": {"name": "none"}, "selector": SMALL},
    }
    summary = evaluate(config(arms=arms), tmp_path / "run")
    assert summary["baseline"] == "plain"
    assert next(r for r in summary["rows"] if r["arm"] == "core")["layers"] == 2


def test_seed_moves_only_what_draws(place, whole, tmp_path):
    evaluate(config(seed=1), tmp_path / "run")
    for arm in ARMS:
        found = [r["scores"] for r in of(rows(tmp_path / "run"), arm)]
        same = found == close([r["scores"] for r in of(whole[0], arm)])
        assert same == (arm not in ("random", "random-layers"))


class TestLongRuns:
    def test_pathways_may_be_left_out(self, place):
        parsed = config(arms={name: ARMS[name] for name in ("base", "ngd")}).model_copy(update={"pathways": False})
        evaluate(parsed, place / "thin")
        found = rows(place / "thin")
        assert all(row["pathway"] == {} for row in found)
        assert any(row["layers"] for row in found)
        again = {(r.arm, r.id): r for r in read_parquet(place / "thin" / "records.parquet")}
        assert all(again[r["arm"], r["id"]].choice == r["choice"] for r in found)

    def test_arms_that_are_named_must_be_there(self):
        arms = ARMS | {"other": ARMS["ngd"] | {"control_of": ["absent"]}}
        absent = ({"arms": arms}, {"controlled": ["absent"]})
        for setting in ({"headline": "none"}, {"compare": [["ngd", "absent"]]}, {"standard": "absent"}, *absent):
            with pytest.raises(SettingError, match=r"controlled and control_of to name arms, got .* base, "):
                parse_config({"model": "model", "arms": ARMS} | setting)


LEARNING = registry_of(own_plugin.FILE)
PRACTISED = {"name": "practised", "n": 2, "experts": 5, "training": 32}


class TestNoTestQuestionChooses:
    """What a selector learns comes from references alone, each without itself as neighbour."""

    def test_training_is_on_references(self, place, monkeypatch):
        seen, train = [], Remixer._training_batch

        def watched(self, questions):
            batch = train(self, questions)
            for b, question in enumerate(questions):
                near = [self.candidates.questions[row].id for row in batch.neighbours.index[b].tolist() if row >= 0]
                assert near
                assert question.id not in near
            seen.extend(q.id for q in questions)
            return batch

        learned = {"optimizer": {"name": "ngd", "steps": 2}, "selector": PRACTISED}
        more = learned | {"selector": PRACTISED | {"training": 50}}
        arms = {"base": ARMS["base"], "learned": learned, "on more": more, "again": learned}
        parsed = config(arms=arms)
        raw = parsed.model_dump()
        raw["datasets"][0]["references"] = ["many.jsonl"]
        monkeypatch.setattr(Remixer, "_training_batch", watched)
        evaluate(parse_config(raw), place / "trained", registry=LEARNING)
        assert len(seen) == 32 + 50, "what was learned once is used again"
        assert all(id_.startswith("many-") for id_ in seen)

    @pytest.mark.parametrize("by", ["id", "text"])
    def test_references_that_are_asked_are_not_trained_on(self, place, monkeypatch, by):
        """By whatever id; what is recorded as labels are those of the others."""
        seen, train = [], Remixer._training_batch

        def watched(self, questions):
            seen.extend(q.id for q in questions)
            return train(self, questions)

        monkeypatch.setattr(Remixer, "_training_batch", watched)
        arms = {
            "base": ARMS["base"],
            "learned": {"optimizer": {"name": "ngd", "steps": 2}, "selector": PRACTISED},
            "constant": {"optimizer": "constant-integrated-step", "selector": SMALL},
        }
        raw, references = config(arms=arms).model_dump(), "many.jsonl"
        if by == "text":
            references = "again.jsonl"
            (place / references).write_text((place / "many.jsonl").read_text().replace('"many-', '"again-'))
        raw["datasets"] = [raw["datasets"][0] | {"questions": "many.jsonl", "references": [references], "limit": 20}]
        evaluate(parse_config(raw), out := place / f"held-out-by-{by}", registry=LEARNING)
        asked = {row["id"].partition("-")[2] for row in rows(out)}
        assert len(seen) == 32
        assert not asked & {id_.partition("-")[2] for id_ in seen}
        assert {r["arm"]: r["labels"] for r in rows(out)} == {"base": 0, "learned": 90, "constant": 70}


def test_shuffled_labels_are_other_labels(place):
    arms = {"base": ARMS["base"], "ngd": ARMS["ngd"], "shuffled": ARMS["ngd"] | {"labels": "shuffled"}}
    evaluate(config(arms=arms), place / "shuffled")
    found = rows(place / "shuffled")
    own, shuffled = ([r for r in found if r["arm"] == arm] for arm in ("ngd", "shuffled"))
    assert [r["neighbours"] for r in own] == [r["neighbours"] for r in shuffled], (
        "the same neighbours teach other things"
    )
    assert any(a["scores"] != b["scores"] for a, b in zip(own, shuffled, strict=True))
    assert {r["setting"]["labels"] for r in shuffled} == {"shuffled"}


def test_another_draw_of_a_control(place):
    shuffled = ARMS["ngd"] | {"labels": "shuffled"}
    arms = {"base": ARMS["base"], "one": shuffled, "same": shuffled | {"seed": 0}, "other": shuffled | {"seed": 1}}
    evaluate(config(arms=arms), place / "draws")
    found = rows(place / "draws")
    one, same, other = ([r["scores"] for r in found if r["arm"] == arm] for arm in ("one", "same", "other"))
    assert one == same != other
    assert {r["setting"].get("seed") for r in found} == {None, 1}, "said only where it is not the run's"


def test_a_summary_of_another_form_is_refused_with_what_to_do(two, tmp_path):
    out = shutil.copytree(two, tmp_path / "run")
    whole = json.loads((out / "summary.json").read_text())
    (out / "summary.json").write_text(json.dumps(whole | {"calibration": []}))
    result = CliRunner().invoke(app, ["report", str(out)])
    assert result.exit_code == 1
    assert "expected the summary of a comparison, got another (calibration: Extra inputs" in result.stderr
    assert "run the study again, or delete the file" in result.stderr
    (out / "summary.json").unlink()
    assert CliRunner().invoke(app, ["report", str(out)]).exit_code == 0
    assert json.loads((out / "summary.json").read_text())["rows"] == whole["rows"]
