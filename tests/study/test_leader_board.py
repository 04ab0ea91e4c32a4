"""A leader board from the records of planted runs: what is joined, what is refused, and what is written."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from records.made import answered, plain
from typer.testing import CliRunner

from c3po_adaptive import load_moe_model
from c3po_adaptive.analysis.arm_requirements import requirements
from c3po_adaptive.analysis.joined_runs import Run, as_draws
from c3po_adaptive.audit import audit, audited_in
from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError, UnknownNameError
from c3po_adaptive.records.parquet import write_parquet
from c3po_adaptive.records.summary import BoardSummary
from c3po_adaptive.report.leader_board_page import filled, gains, overall, page
from c3po_adaptive.storage.markdown import cell
from c3po_adaptive.study.leader_board import board_summary, read_board, stale_pages, write_board
from c3po_adaptive.testing import write_tiny_checkpoint
from c3po_adaptive.types import Question

DRAWN = {"control_of": ["method"], "varies": ["labels drawn at random"]}
ARMS = {
    "base": {"optimizer": {"name": "none", "start": "own"}, "changes": "nothing"},
    "method": {"optimizer": {"name": "ngd", "lr": 0.1}, "labels": "own"},
    "shuffled, labels": {"optimizer": {"name": "ngd", "lr": 0.1}, "labels": "shuffled"} | DRAWN,
}
RAN = """
arms:
  base: {optimizer: none}
  method: {optimizer: {name: ngd, lr: 0.1}}
  shuffled, labels: {optimizer: ngd, labels: shuffled, control_of: [method]}
"""
CONFIG = f"""
datasets:
  - {{name: one, questions: demo, references: [sciq]}}
  - {{name: two, questions: demo}}
{RAN}"""
BOARD = """
title: Planted
runs:
  - {config: run.yaml, records: ["one.parquet", "tw*.parquet"]}
pages: [README.md]
"""
PAGE = "Before.\n<!-- board overall: base; method -->\nold\n<!-- /board -->\n"
PAGE += "<!-- board gains -->\n<!-- /board -->\nAfter.\n"


def records(dataset, up, seed=0, n=400):
    """The base is right on half; the method turns ``up`` of all, and its control nothing but a little both ways."""
    rng = np.random.default_rng(seed)
    base = np.arange(n) % 2 == 0
    right = {
        "base": base,
        "method": base | (rng.random(n) < 2 * up),
        "shuffled, labels": base ^ (rng.random(n) < 0.04),
    }
    return [
        answered(
            id=f"{dataset}-{i}", dataset=dataset, arm=arm, answer=1, choice=int(c), base_choice=int(b), layers=[3],
            scores=[0.0, 0.7 if c else -0.7], setting=ARMS[arm], neighbours_used=0, moved=0.1,
            once=0.0 if arm == "base" else 50.0, labels=0 if arm == "base" else 300, parameters=0,
            cost={"prefill": 1.0, "optimisation": 0.5 * (arm != "base"), "total": 1.0 + 0.5 * (arm != "base")},
        )
        for arm, values in right.items()
        for i, (b, c) in enumerate(zip(base, values, strict=True))
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run.yaml").write_text(CONFIG)
    (tmp_path / "board.yaml").write_text(BOARD)
    (tmp_path / "README.md").write_text(PAGE)
    for name, up in (("one", 0.15), ("two", 0.05)):
        write_parquet(records(name, up), tmp_path / f"{name}.parquet")
    return tmp_path


def summary_of(folder):
    return board_summary(read_board(folder / "board.yaml"), folder)


def made(folder):
    """The same, as it stands in its file."""
    return plain(summary_of(folder))


def test_runs_stand_in_one_table(folder):
    summary = made(folder)
    rows = {(row["dataset"], row["arm"]): row for row in summary["rows"]}
    assert {name for name, _ in rows} == {"one", "two", "all"}
    assert rows["one", "method"]["verdict"] == "helps beyond its controls"
    assert rows["one", "method"]["references"] == "sciq"
    gains = [rows[name, "method"]["gain"] for name in ("one", "two", "all")]
    assert gains[2] == pytest.approx(sum(gains[:2]) / 2)
    assert rows["all", "method"]["cost"]["once"] == 50
    assert {"dataset": "two", "arm": "method", "config": "run.yaml", "records": "two.parquet"} in summary["sources"]
    assert summary["config"]["model"] == "smollm2-moe"


def test_without_an_answer_of_the_base_to_all_of_them_there_is_no_mean(folder):
    """Each data set in a run of its own, another carving of the model."""
    other = "  - {config: run.yaml, records: [two.parquet], draw: carving 1}\n"
    (folder / "board.yaml").write_text(BOARD.replace(', "tw*.parquet"]}\n', f"]}}\n{other}"))
    head = gains(summary_of(folder), [], ".").splitlines()[0]
    assert "| one<br>" in head and "| two<br>" in head and "| all |" not in head


def test_what_each_asks_for(folder):
    found = {row.arm: plain(row) for row in requirements(summary_of(folder))}
    assert [found["method"][key] for key in ("parameters", "prompt", "labels")] == [0, 1, 300]
    one, two = (row["gain"] for row in made(folder)["rows"] if row["arm"] == "method" and row["dataset"] != "all")
    assert (found["method"]["lowest"], found["method"]["highest"]) == (min(one, two), max(one, two))
    assert 0 < found["method"]["beyond_noise"] < found["method"]["sd"] == pytest.approx(abs(one - two) / 2**0.5)
    assert found["shuffled, labels"]["beyond_noise"] < 2, "what differs by chance alone does not depend on the task"


def test_another_draw_widens_the_interval(folder):
    narrow = made(folder)
    for k, up in enumerate((0.05, 0.25)):
        both = [r for name in ("one", "two") for r in records(name, up, seed=k + 1)]
        write_parquet(both, folder / f"draw{k}.parquet")
        entry = f"  - {{config: run.yaml, records: [draw{k}.parquet], draw: carving {k}}}\n"
        (folder / "board.yaml").write_text((folder / "board.yaml").read_text().replace("pages:", f"{entry}pages:"))
    wide = made(folder)
    a, b = (next(r for r in s["rows"] if (r["dataset"], r["arm"]) == ("all", "method")) for s in (narrow, wide))
    assert (a["draws"], b["draws"], b["n"]) == (1, 3, 800)
    assert b["ci_high"] - b["ci_low"] > 2 * (a["ci_high"] - a["ci_low"])
    assert [s["records"] for s in wide["sources"]] == [s["records"] for s in narrow["sources"]], "the first draw's"


def test_what_came_over_a_configuration(folder):
    """The data sets of a run whose configuration does not name them: from another file, as --set has it."""
    (folder / "run.yaml").write_text(RAN)
    (folder / "asked.yaml").write_text("datasets: [{name: one, questions: demo, references: [sciq]}]\n")
    (folder / "board.yaml").write_text(
        'title: Planted\nruns:\n  - {config: run.yaml, set: ["@asked.yaml"], records: [one.parquet]}\n'
    )
    summary = made(folder)
    assert [d["references"] for d in summary["config"]["datasets"]] == [["sciq"]]


def test_each_arm_says_whom_its_own_run_learned_from(folder):
    """The same questions, asked by another configuration: references of their own set, and in letters."""
    (folder / "told.yaml").write_text(
        "datasets: [{name: two, questions: sciq, references: [sciq], format: letter}]\n"
        "arms: {told: {optimizer: {name: ngd, lr: 0.1}}}\n"
    )
    told = [r.model_copy(update={"arm": "told"}) for r in records("two", 0.1) if r.arm == "method"]
    write_parquet(told, folder / "told.parquet")
    (folder / "board.yaml").write_text(
        "title: Planted\nruns:\n  - {config: run.yaml, records: [one.parquet, two.parquet]}\n"
        "  - {config: told.yaml, records: [told.parquet]}\n"
    )
    found = {(row["dataset"], row["arm"]): (row["references"], row["format"]) for row in made(folder)["rows"]}
    assert found["two", "told"] == ("sciq (same set)", "letters")
    assert found["two", "method"] == ("none", "cloze by tokens")
    assert found["one", "method"] == ("sciq", "cloze by tokens")
    assert found["all", "method"] == ("other sets", "cloze by tokens")


def test_an_arm_that_was_asked_fewer_questions(folder):
    """Refused, or compared on those that both answered, and said."""
    own = [r for r in records("two", 0.2) if r.arm != "method" or int(r.id.partition("-")[2]) < 150]
    write_parquet(own, folder / "two.parquet")
    with pytest.raises(DataError, match="answer the same questions"):
        made(folder)
    with (folder / "board.yaml").open("a") as file:
        file.write("partly: true\n")
    summary = made(folder)
    found = {(row["dataset"], row["arm"]): row for row in summary["rows"]}
    assert found["two", "base"]["n"] == 400 and found["two", "method"]["n"] == 150
    base = [r for r in own if r.arm == "base"][:150]
    gain = sum(r.choice == 1 for r in own if r.arm == "method") - sum(r.choice == 1 for r in base)
    assert found["two", "method"]["gain"] == pytest.approx(100 * gain / 150)
    assert found["all", "method"]["n"] == 550
    assert " on 150 " in gains(summary_of(folder), [], "."), "the cell says of how many"


def test_chosen_arms_in_their_order(folder):
    with (folder / "board.yaml").open("a") as file:
        file.write("arms: [method, base]\n")
    assert [row["arm"] for row in made(folder)["rows"]] == ["method", "base"] * 3


def test_chosen_data_sets(folder):
    with (folder / "board.yaml").open("a") as file:
        file.write("datasets: [two]\n")
    summary = made(folder)
    assert {row["dataset"] for row in summary["rows"]} == {"two"}
    assert [d["name"] for d in summary["config"]["datasets"]] == ["two"]
    assert {source["records"] for source in summary["sources"]} == {"two.parquet"}


class TestRefused:
    @pytest.mark.parametrize(
        "line",
        [
            *("datasets: [one, three]\n", "arms: [base, three]\n", "compare: [[method, three]]\n"),
        ],
    )
    def test_a_name_that_no_record_has(self, folder, line):
        with (folder / "board.yaml").open("a") as file:
            file.write(line)
        with pytest.raises(DataError, match=r"records of \w+ 'three', got those of .*; leave it out"):
            made(folder)

    def test_one_answer_twice(self):
        rows = records("one", 0.1, n=4)
        assert len(as_draws([Run("a.parquet", rows), Run("b.parquet", rows)])) == len(rows), "the same counts once"
        assert len(as_draws([Run("a.parquet", rows)] * 2)) == len(rows), "a file that is named twice, too"
        other = [r.model_copy(update={"choice": 1 - r.choice}) for r in rows]
        with pytest.raises(DataError, match=r"'one-0' of 'one' by 'base', in a\.parquet and in b.*choices differ"):
            as_draws([Run("a.parquet", rows), Run("b.parquet", other)])
        other = [r.model_copy(update={"setting": r.setting.model_copy(update={"seed": 9})}) for r in rows]
        with pytest.raises(DataError, match=r"settings differ"):
            as_draws([Run("a.parquet", rows), Run("b.parquet", other)])
        assert {r.run for r in as_draws([Run("a", rows), Run("b", rows, "more")])} == {0, 1}

    def test_records_that_are_not_there(self, folder):
        (folder / "one.parquet").unlink()
        with pytest.raises(DataError, match=r"Expected records at .*one\.parquet, got none"):
            made(folder)

    def test_records_of_another_configuration(self, folder):
        (folder / "run.yaml").write_text(CONFIG.replace("name: two", "name: three"))
        with pytest.raises(DataError, match=r"Expected records of one, three at two.parquet, got some of 'two'"):
            made(folder)

    @pytest.mark.parametrize(
        ("was", "now", "said"),
        [
            ("lr: 0.1", "lr: 0.3", r"optimizer.lr of 'method' to be 0.3 at one.parquet, as run.yaml has it, got 0.1"),
            ("optimizer: ngd", "optimizer: oracle", r"optimizer.name of 'shuffled, labels' to be oracle .*, got ngd"),
            ("base: {optimizer: none}", "base: {optimizer: ngd}", r"optimizer.name of 'base' to be ngd .*, got none"),
            ("labels: shuffled", "labels: own", r"labels of 'shuffled, labels' to be own .*, got shuffled"),
            ("method", "other", r"Expected records of base, other, shuffled, labels at one.parquet.* got method"),
        ],
    )
    def test_records_that_the_configuration_did_not_make(self, folder, was, now, said):
        (folder / "run.yaml").write_text(CONFIG.replace(was, now))
        with pytest.raises(DataError, match=said):
            made(folder)

    def test_a_configuration_without_questions(self, folder):
        (folder / "run.yaml").write_text("kind: speed\n")
        with pytest.raises(UnknownNameError, match=r"a kind of study among comparison, .* got 'speed'"):
            made(folder)

    @pytest.mark.parametrize(
        ("text", "said"),
        [("nothing", "got none; add some"), ("<!-- board x -->\n<!-- /board -->", "a block among overall, got 'x'")],
    )
    def test_pages(self, text, said):
        with pytest.raises(SettingError, match=said):
            filled(text, {"overall": lambda arms: ""}, "README.md")


def test_written_whole_and_found_stale(folder):
    run = CliRunner()
    assert run.invoke(app, ["board", str(folder / "board.yaml"), "--check"]).exit_code == 1
    assert (folder / "README.md").read_text() == PAGE, "a check writes nothing"
    assert run.invoke(app, ["board", str(folder / "board.yaml")]).exit_code == 0
    text = (folder / "README.md").read_text()
    assert text.startswith("Before.\n<!-- board overall: base; method -->\n| arm |")
    assert text.endswith("<!-- /board -->\nAfter.\n")
    all_of_them, each = re.findall(r"<!-- board.*?-->\n(.*?)<!-- /board -->", text, re.S)
    assert re.findall(r"^\| (`.*?`) \|", all_of_them, re.M) == ["`base`", "`method`"]
    assert "[config](run.yaml), [records](one.parquet)" in each
    assert " ● |" in each
    summary = json.loads((folder / "results" / "summary.json").read_text())
    (row,) = (row for row in summary["rows"] if (row["dataset"], row["arm"]) == ("all", "method"))
    assert f"{row['gain']:+.1f} [{row['ci_low']:+.1f}, {row['ci_high']:+.1f}]" in all_of_them
    assert (folder / "results" / "accuracy_by_cost.svg").read_text().startswith("<svg xmlns=")
    drawn = (folder / "results" / "board.html").read_text()
    assert 'href="../run.yaml"' in drawn
    assert 'href="../one.parquet"' in drawn
    assert drawn.count("<svg") == 3
    assert run.invoke(app, ["board", str(folder / "board.yaml"), "--check"]).exit_code == 0
    (folder / "README.md").write_text(text.replace(" ● |", " |", 1))
    result = run.invoke(app, ["board", str(folder / "board.yaml"), "--check"])
    assert (result.exit_code, "not what the records say" in result.stderr) == (1, True)
    board = read_board(folder / "board.yaml")
    told = BoardSummary.model_validate(summary)
    assert stale_pages(board, folder, told) == [folder / "README.md"]
    assert folder / "README.md" in list(write_board(board, folder, told))
    assert (folder / "README.md").read_text() == text


def test_what_an_audit_of_the_model_says_stands_below_the_table(folder):
    model = load_moe_model(write_tiny_checkpoint(folder / "model", "olmoe"))
    audit(model, [Question(str(i), f"q{i}", ("a", "b"), i % 2) for i in range(2)], folder / "audited", rates=[0.1])
    assert made(folder)["audit"] is None
    (folder / "board.yaml").write_text(f"{BOARD}audit: audited\n")
    summary = summary_of(folder)
    assert summary.audit == audited_in(folder / "audited").line
    assert overall(summary, []).endswith(cell(summary.audit))
    assert summary.audit in html.unescape(page(summary, "results"))


def test_links_are_from_the_page(folder):
    inner = folder / "docs"
    inner.mkdir()
    (folder / "README.md").rename(inner / "board.md")
    (folder / "board.yaml").write_text(BOARD.replace("README.md", "docs/board.md"))
    summary = summary_of(folder)
    list(write_board(read_board(folder / "board.yaml"), folder, summary))
    links = re.findall(r"\]\((.*?)\)", (inner / "board.md").read_text())
    assert links
    assert all((inner / link).is_file() for link in links), links
    assert Path("..") in Path(links[0]).parents
