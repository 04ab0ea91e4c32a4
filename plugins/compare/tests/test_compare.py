"""``c3po compare RUNS --protocol FILE``, and ``answers(*runs)``: run folders and kept files alike."""

import json
import sys

import pytest
import yaml
from c3po_compare import answers
from c3po_compare.rules import rules
from cli.test_cli import call
from records.made import answered, summarize
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.records.parquet import ModelIdentity, write_parquet
from c3po_adaptive.storage.identity import digest_of_file
from c3po_adaptive.storage.run_folder import claim

COST = {"prefill": 1.0, "total": 1.0}
RIGHT = {"base": "000110", "each": "111110"}
PROTOCOL = {
    "unit": "question",
    "second_unit": "kind",
    "comparisons": [{"a": "each", "b": "base", "primary": True}, {"a": "each", "b": "base", "by": "model"}],
    "forests": {"gains": {}},
    "curves": {"labels": {"x": "labels", "b": "base", "log": True, "lines": {"each": {1: "each", 10: "each"}}}},
}


def records(right=RIGHT, **given):
    return [
        answered(
            arm=arm, id=f"q{i}", subject="xy"[i % 2], correct=one == "1", scores=[0.0, -1.0, -2.0], cost=COST, **given
        )
        for arm, row in right.items()
        for i, one in enumerate(row)
    ]


def run_folder(folder, own, *, model="models/early", questions="1", missing=()):
    """A run's folder as studies leave it."""
    config = {"model": model, "inputs": {"model": model, "questions": {"demo": questions}}}
    claim(folder, config, model)
    (folder / "records.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in own))
    (folder / "summary.json").write_text(json.dumps(summarize(own, config={}, seed=0, missing=missing)))
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_folder(tmp_path / "run", records())
    write_parquet(records({"base": "000000", "each": "111100"}), tmp_path / "late.parquet")
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(PROTOCOL))
    return tmp_path


def refused(*args):
    result = CliRunner().invoke(app, ["compare", *map(str, args), "--protocol", "protocol.yaml"])
    assert (result.exit_code, result.stdout) == (1, ""), (result.output, result.exception)
    return result.stderr


def test_a_folder_of_all_that_is_said(place):
    printed = call("compare", "run", "late.parquet", "--protocol", "protocol.yaml", "--out", "told")
    found = json.loads((place / "told" / "summary.json").read_text())
    assert found["hashes"] == {"protocol": digest_of_file(place / "protocol.yaml"), "rules": rules()}
    assert found["models"] == ["early", "late"]
    assert [(c["on"], c["n"], c["units"]) for c in found["comparisons"]] == [
        *(("all", 12, 6), ("early", 6, 6), ("late", 6, 6)),
    ]
    assert [(c["unit"], c["units"]) for c in found["second"]] == [("kind", 2)] * 3
    assert [point["x"] for point in found["curves"]["labels"]] == [1, 10]
    primary = found["comparisons"][0]
    assert primary["difference"] == pytest.approx(100 * (2 + 2 + 2 + 1 + 0 + 0) / 12)
    page = (place / "told" / "comparisons.md").read_text()
    for text in (printed, page):
        assert primary["sentence"] in text and "+58.3 [" in text
    assert "## Primary, over kinds" in page
    for picture in ("gains", "labels"):
        assert (place / "told" / f"{picture}.svg").read_text().startswith("<svg xmlns=")
    assert json.loads(call("compare", "run", "late.parquet", "--protocol", "protocol.yaml", "--json")) == found


def test_the_same_again_byte_by_byte_and_from_what_is_kept(place):
    write_parquet(records(), place / "early.parquet")
    read = []
    for source in ("run", "run", "early.parquet"):
        call("compare", source, "--protocol", "protocol.yaml", "--out", "told")
        read.append({path.name: path.read_bytes() for path in (place / "told").iterdir()})
    assert read[0] == read[1] == read[2]


def test_answers_are_a_row_each(place):
    table = answers("run", "other=late.parquet")
    assert [*table.columns] == [
        *("model", "dataset", "split", "arm", "kind", "question", "draw"),
        *("answer", "choice", "correct", "chance", "loss", "cost"),
    ]
    assert table.groupby(["model", "arm"]).correct.sum().to_dict() == {
        ("early", "base"): 2, ("early", "each"): 5, ("other", "base"): 0, ("other", "each"): 4,
    }  # fmt: skip
    assert table.loss[0] == pytest.approx(0.4076, abs=1e-4), "of scores 0, -1 and -2, the first right"


def test_a_table_wants_pandas(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SettingError, match=r"pip install 'c3po_adaptive\[pandas\]'"):
        answers("run")


def test_several_runs_of_one_model_are_one(place):
    """Whatever they would do to a base that they leave as it is, and as far as a file keeps its scores."""
    base = {"base": RIGHT["base"]}
    left = [records(base, setting={"changes": "nothing", "loss": loss}) for loss in ("choices", "full")]
    run_folder(place / "run", [*records({"each": RIGHT["each"]}), *left[0]])
    nearly = [r.model_copy(update={"scores": (*r.scores[:2], -2.0006)}) for r in left[1]]
    run_folder(place / "more", [*nearly, *records({"random": "000000"})])
    assert {*answers("run", "more").arm} == {"base", "each", "random"}
    assert len(answers("run", "more")) == 18, "the base once"


class TestRefused:
    def test_runs_that_are_none_or_not_finished(self, place):
        assert "run folder" in refused("nowhere")
        run_folder(place / "half", records(), missing=["of 9 questions of demo, each answered 6"])
        assert "got of 9 questions of demo, each answered 6; give its command again" in refused("half")
        (place / "run" / "summary.json").unlink()
        assert "got no summary" in refused("run")

    def test_what_is_called_alike_and_is_not(self, place):
        for name, said, given in (
            ("answers", "name them apart (first=RUN second=RUN)", {"own": records({**RIGHT, "base": "100110"})}),
            ("model", "by the name 'early', got two, early of run and", {"model": "elsewhere/early"}),
            ("questions", "got others by the same ids", {"model": "models/late", "questions": "2"}),
            ("splits", "one split of 'demo'", {"model": "models/late", "own": records(split="validation")}),
            ("ids", "in all runs, got 'q0' of 'demo'", {"model": "models/late", "own": records(answer=1)}),
        ):
            run_folder(place / name, given.pop("own", records()), **given)
            assert said in refused("run", name)
            with pytest.raises(DataError):
                answers("run", name)

    def test_files_of_one_name_that_are_of_two_models_or_do_not_say(self, place):
        """Their arms are others, so no answer differs; a file of before names no model."""
        models = {"first": ModelIdentity("early", "1"), "second": ModelIdentity("late", "2"), "before": None}
        for (folder, model), arm in zip(models.items(), RIGHT | {"more": ""}, strict=True):
            (place / folder).mkdir()
            write_parquet(records({arm: RIGHT["each"]}), place / folder / "records.parquet", model)
        first, second, before = (f"{folder}/records.parquet" for folder in models)
        for name in ("", "m="):
            said = refused(f"{name}{first}", f"{name}{second}")
            assert "got two, early of first/records.parquet and late of second/records.parquet" in said
        assert "before/records.parquet does not name its model; name each" in refused(first, before)
        assert {*answers(f"m={first}", f"m={before}", second).model} == {"m", "records"}

    def test_kept_files_of_other_questions_by_the_same_ids(self, place):
        for name, asked in (("early", "1"), ("late", "2")):
            write_parquet(records(), place / f"{name}.parquet", ModelIdentity(name, name, {"demo": asked}))
        for one, other in (("early.parquet", "late.parquet"), ("run", "late.parquet")):
            assert "got others by the same ids" in refused(one, other)

    def test_an_answer_with_other_scores(self, place):
        own = [r.model_copy(update={"scores": (*r.scores[:2], -2.01)}) if r.arm == "each" else r for r in records()]
        run_folder(place / "scores", own)
        assert "by the scores 0.000, -1.000, -2.000 in run and choice 0 by the scores" in refused("run", "scores")

    def test_the_same_id_with_another_right_answer_by_one_model(self, place):
        run_folder(place / "ids", [r.model_copy(update={"answer": 1, "correct": not r.correct}) for r in records()])
        assert "in all runs, got 'q0' of 'demo'" in refused("run", "ids")

    def test_an_arm_of_one_model_set_otherwise(self, place):
        """On other questions, too; as a file keeps it, too."""

        def each(dataset, lr, **more):
            base = records({"base": RIGHT["base"]}, dataset=dataset)
            setting = {"optimizer": {"name": "step", "lr": lr}, **more}
            return [*base, *records({"each": RIGHT["each"]}, dataset=dataset, setting=setting)]

        run_folder(place / "twelve", each("one", 12))
        write_parquet(each("other", 50), place / "fifty.parquet")
        said = refused("twelve", "early=fifty.parquet")
        assert "the arm 'each' by 'early', got optimizer {'name': 'step', 'lr': 12} in twelve and {'name'" in said
        assert {*answers("twelve", "late=fifty.parquet").model} == {"early", "late"}
        write_parquet(each("other", 12, control_of=["nearest"]), place / "again.parquet")
        assert {*answers("twelve", "early=again.parquet").model} == {"early"}, "it is as it was"

    def test_other_rules_than_the_protocol_names(self, place):
        (place / "protocol.yaml").write_text(yaml.safe_dump(PROTOCOL | {"rules": "0123456789ab"}))
        assert "Expected the rules 0123456789ab" in refused("run")

    def test_arms_that_nobody_has(self, place):
        (place / "protocol.yaml").write_text(yaml.safe_dump(PROTOCOL | {"comparisons": [{"a": "eahc", "b": "base"}]}))
        assert "got 'eahc'; did you mean 'each'?" in refused("run")

    def test_files_of_others(self, place):
        (place / "told").mkdir()
        (place / "told" / "comparisons.md").write_text("mine")
        assert "without comparisons.md of others" in refused("run", "--out", "told")
        assert (place / "told" / "comparisons.md").read_text() == "mine"
        for side in ("a", "b"):
            (place / "protocol.yaml").write_text(yaml.safe_dump(PROTOCOL | {"forests": {"gains": {side: "nobody"}}}))
            assert "the forest 'gains', got none" in refused("run", "--out", "new")
            assert not (place / "new").exists()
        call("compare", "run", "--protocol", "protocol.yaml")  # draws nothing
