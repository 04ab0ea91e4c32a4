"""``c3po report A B``: two runs side by side."""

import json
import shutil

import pytest
from c3po_compare.paired_runs import Run
from c3po_compare.side_by_side import differing, side_by_side
from cli.test_cli import call, place  # noqa: F401 (a fixture)
from records.made import answered, plain
from typer.testing import CliRunner

from c3po_adaptive.analysis import compare
from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.storage.run_folder import claim

pytestmark = pytest.mark.usefixtures("undrawn")
OPTIONS = ("demo", "--model", "model", "--references", "references.jsonl", "--limit", "8")


@pytest.fixture(scope="module")
def runs(place):  # noqa: F811
    """Two runs that differ in the way that questions are put, and in one arm."""
    call(*OPTIONS, "--arm", "kernel-regression", "--arm", "mode-finding", "--out", "A")
    call(*OPTIONS, "--arm", "kernel-regression", "--format", "letter", "--out", "B")
    return "A", "B"


def refused(*args):
    result = CliRunner().invoke(app, ["report", *map(str, args)])
    assert result.exit_code == 1, (result.output, result.exception)
    assert result.stdout == ""
    return result.stderr


def test_arms_of_the_same_name_are_paired(runs):
    found = json.loads(call("report", *runs, "--json"))
    assert [(r["dataset"], r["arm"], r["n"]) for r in found["rows"]] == [
        ("demo", "base", 8),
        ("demo", "kernel-regression", 8),
    ]
    assert found["only_a"] == ["mode-finding"]
    assert found["only_b"] == []
    assert {"field": "format", "a": "cloze", "b": "letter"} in found["fields"]
    (alone,) = [f for f in found["fields"] if f["field"] == "arms.mode-finding"]
    assert (alone["a"]["optimizer"], alone["b"]) == ("mode-finding", None), "as a whole"
    assert "datasets.0.limit" not in {f["field"] for f in found["fields"]}


def test_figures_are_those_of_the_statistics(runs):
    (row, _) = side_by_side(*(Run(name, read_records(name, AnswerRecord)) for name in runs)).rows
    a, b = ([r for r in read_records(name, AnswerRecord) if r.arm == "base"] for name in runs)
    made = compare(b, a, seed=0)
    assert (row.difference, row.ci_low, row.ci_high, row.p) == (*(made.difference, made.ci_low, made.ci_high, made.p),)
    assert row.accuracy_b - row.accuracy_a == pytest.approx(row.difference)


def test_what_is_generated_beside_its_likelihood_is_not_counted_twice():
    records = [answered(arm="base", dataset=name, id=i) for name in ("a", "b", "a, again") for i in "xyz"]
    found = side_by_side(Run("A", records), Run("B", records), again={"a, again"})
    assert [(r.dataset, r.n) for r in found.rows] == [("a", 3), ("b", 3), ("a, again", 3), ("all", 6)]
    alone = [r for r in records if r.dataset != "b"]
    assert len(side_by_side(Run("A", alone), Run("B", records), again={"a, again"}).rows) == 2


def test_printed_and_as_a_page(runs, tmp_path):
    told = call("report", *runs, "--out", tmp_path / "both")
    assert "They differ in:" in told
    assert "  format: cloze → letter" in told
    assert "In A alone: mode-finding" in told
    assert "arms." not in told, "it is named once"
    assert "References of demo: references\n" in told
    page = (tmp_path / "both" / "report.html").read_text()
    assert "kernel-regression" in page
    assert "<td>format</td><td>cloze</td><td>letter</td>" in page
    assert "http" not in page
    kept = json.loads((tmp_path / "both" / "summary.json").read_text())
    assert kept == json.loads(call("report", *runs, "--json"))


def test_an_unfinished_run_counts_with_what_it_has(runs, tmp_path):
    cut = shutil.copytree("A", tmp_path / "cut")
    lines = (cut / "records.jsonl").read_text().splitlines(keepends=True)
    (cut / "records.jsonl").write_text("".join(lines[:11]))
    (cut / "summary.json").unlink()
    found = json.loads(call("report", cut, "B", "--json"))
    assert [(r["arm"], r["n"]) for r in found["rows"]] == [("base", 8), ("kernel-regression", 3)]


def test_runs_without_common_questions_are_refused(runs, tmp_path):
    call("demo", "--model", "model", "--questions", "test.jsonl", "--arm", "base", "--out", "C")
    said = refused("A", "C")
    assert "share questions" in said
    assert "C has the arms base on 4 questions, such as test: " in said


def test_other_questions_of_the_same_ids_are_refused(runs, tmp_path):
    other = shutil.copytree("B", tmp_path / "other")
    rows = [json.loads(line) for line in (other / "records.jsonl").read_text().splitlines()]
    for row in rows:
        row["answer"] = (row["answer"] + 1) % len(row["scores"])
        row["correct"] = row["choice"] == row["answer"]
    (other / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "Expected the same questions in all runs" in refused("A", other)


def test_arms_by_other_names_are_paired(runs, tmp_path):
    """Rows have A's names; B's own arm of that name is named apart."""
    found = json.loads(call("report", *runs, "--arm", "mode-finding=kernel-regression", "--json"))
    assert [(r["arm"], r["n"]) for r in found["rows"]] == [("base", 8), ("mode-finding", 8)]
    assert (found["only_a"], found["only_b"]) == (["kernel-regression"], [])
    assert found["arms"] == {"mode-finding": "kernel-regression"}
    a, b = (
        [r for r in read_records(run, AnswerRecord) if r.arm == arm]
        for run, arm in zip(runs, ("mode-finding", "kernel-regression"), strict=True)
    )
    made = compare([r.model_copy(update={"arm": "x"}) for r in b], a, seed=0)
    assert found["rows"][1]["difference"] == pytest.approx(made.difference)
    fields = {f["field"]: (f["a"], f["b"]) for f in found["fields"]}
    assert fields["arms.mode-finding.optimizer"] == ("mode-finding", "kernel-regression")
    told = call("report", *runs, "--arm", "kernel-regression = base", "--arm", "base=kernel-regression")
    assert "kernel-regression of A is base of B" in told
    taken = json.loads(call("report", *runs, "--arm", "kernel-regression=base", "--json"))
    assert [r["arm"] for r in taken["rows"]] == ["kernel-regression"]
    assert taken["only_b"] == ["kernel-regression (B's own)"]


def test_data_sets_by_other_names_are_paired(runs, tmp_path):
    other = shutil.copytree("B", tmp_path / "other")
    for name in ("records.jsonl", "config.json"):
        text = (other / name).read_text()
        (other / name).write_text(
            text.replace('"dataset":"demo"', '"dataset":"again"').replace('"name": "demo"', '"name": "again"')
        )
    (other / "summary.json").unlink()
    assert "share questions" in refused("A", other)
    found = json.loads(call("report", "A", other, "--dataset", "demo=again", "--json"))
    plainly = json.loads(call("report", "A", "B", "--json"))
    assert found["rows"] == plainly["rows"]
    assert found["references"] == plainly["references"]
    assert found["fields"] == plainly["fields"]


@pytest.mark.parametrize(("given", "said"), [
    (("A", "B", "--arm", "mode-findin=base"), "did you mean 'mode-finding'"),
    (("A", "B", "--arm", "base=mode-finding"), "got 'mode-finding'; there are base, kernel-regression"),
    (("A", "B", "--dataset", "demo=other"), "got 'other'; there is demo; "),
    (("A", "B", "--arm", "base"), "Expected --arm A=B, each name once, got 'base'"),
    (("A", "B", "--arm", "base=base", "--arm", "mode-finding=base"), "each name once, got 'mode-finding=base'"),
    (("A", "--arm", "base=base"), "beside two runs"),
])  # fmt: skip
def test_names_that_cannot_be_paired(runs, given, said):
    assert said in refused(*given)


def test_what_cannot_be(runs, tmp_path):
    assert "--out beside two runs" in refused("A", "--out", tmp_path / "out")
    assert "without a run for the report of two" in refused("A", "B", "--out", "A")
    assert "Expected a run folder" in refused("A", tmp_path)
    claim(tmp_path, {"kind": "faithfulness"})
    assert "two runs of one kind, got comparison and faithfulness" in refused("A", tmp_path)
    assert "got faithfulness; report each" in refused(tmp_path, tmp_path)


def test_several_data_sets_and_their_mean():
    def records(arm, right, dataset):
        known = {"arm": arm, "dataset": dataset, "scores": [0, 1]}
        return [answered(id=str(i), correct=bool(c), **known) for i, c in enumerate(right)]

    a = records("base", [1, 0], "x") + records("base", [0, 0, 0, 0], "y") + records("mine", [1, 1], "x")
    b = records("base", [1, 1], "x") + records("base", [0, 0, 0, 1], "y")
    rows = side_by_side(Run("a", a), Run("b", b)).rows
    assert [(r.dataset, r.n, r.difference) for r in rows] == [("x", 2, 50.0), ("y", 4, 25.0), ("all", 6, 37.5)]
    with pytest.raises(DataError, match="share questions"):
        side_by_side(Run("a", a), Run("b", records("base", [1], "z")))


def test_of_several_draws_those_count_that_went_as_far_as_the_first():
    """Two batches of two questions, of which four draws answered the first, the second, the first, and both."""

    def draw(seed, columns, first=0):
        return [
            answered(arm="a", id=str(first + i), seed=seed, correct=c == "1", scores=[float(c), 0.0])
            for i, c in enumerate("".join(columns))
        ]

    cut = [*draw(0, ["11"]), *draw(1, ["11"], 2), *draw(2, ["10"]), *draw(3, ["0000"])]
    whole = [r for seed in range(3) for r in draw(seed, ["0000"])]
    for pair, difference in (((cut, whole), -75), ((whole, cut), 75)):
        (row,) = side_by_side(*(Run("run", own) for own in pair)).rows
        assert (row.n, row.difference) == (2, difference)


def test_fields_that_differ():
    a = {"seed": 0, "arms": {"x": {"lr": 1, "by": {"n": 1}}, "y": {"lr": 2}}, "datasets": [{"name": "d", "limit": 3}]}
    b = {"seed": 1, "arms": {"x": {"lr": 1, "by": "n"}}, "datasets": [{"name": "d"}], "points": [1, 3], "new": None}
    assert [plain(field) for field in differing(a | {"points": [1, 2]}, b)] == [
        {"field": "seed", "a": 0, "b": 1},
        {"field": "arms.x.by", "a": {"n": 1}, "b": "n"},
        {"field": "arms.y", "a": {"lr": 2}, "b": None},
        {"field": "datasets.0.limit", "a": 3, "b": None},
        {"field": "points", "a": [1, 2], "b": [1, 3]},
    ]
