"""A run that names an audit: its sentence in the report, and what a null result is then called."""

import json

import pytest
from records.made import plain
from study.configs import small_study

from c3po_adaptive import DataError, load_moe_model
from c3po_adaptive.study.comparison import STUDY

pytestmark = pytest.mark.usefixtures("undrawn")

SENTENCE = "Permuting the routers costs 0.9 points"
AUDIT = {"kind": "audit", "sentence": SENTENCE, "model": "tiny", "dataset": "demo", "base": {"n": 4, "p": 0.3}}
"""Of what an audit's ``summary.json`` says, all that is read here."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small study, and an audit of its model and of another."""
    folder = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        config = small_study(folder)
        for name, model in (("audit", load_moe_model(folder / "model").fingerprint), ("of another", "0" * 64)):
            (folder / name).mkdir()
            (folder / name / "summary.json").write_text(json.dumps(AUDIT | {"hashes": {"model": model}}))
        yield folder, config


def test_its_sentence_stands_in_the_report_and_a_null_result_is_told_apart(place):
    folder, config = place
    summary = plain(STUDY.run(config.model_copy(update={"audit": str(folder / "audit")}), folder / "run"))
    assert summary["audit"] == f"Audit of tiny on demo (4 questions): {SENTENCE}"
    assert SENTENCE in (folder / "run" / "report.html").read_text()
    rows = {row["arm"]: row for row in summary["rows"]}
    assert rows["ngd"]["verdict"] == "cannot tell"
    assert rows["ngd"]["because"].startswith("base (")


def test_one_of_another_model_is_refused(place):
    folder, config = place
    with pytest.raises(DataError, match=r"Expected an audit of the run's model, got .*of another"):
        STUDY.run(config.model_copy(update={"audit": str(folder / "of another")}), folder / "refused")


def test_one_that_is_not_there_is_refused_before_anything_is_run(place):
    folder, config = place
    with pytest.raises(DataError, match="Expected an audit that was run to the end"):
        STUDY.run(config.model_copy(update={"audit": str(folder / "model")}), folder / "nothing")
    assert not (folder / "nothing").exists()


@pytest.mark.parametrize("change", [{"base": None}, {"sentence": 7}, {"hashes": {}}, {"kind": "comparison"}])
def test_a_summary_of_something_else_is_refused(place, change, tmp_path):
    folder, config = place
    good = json.loads((folder / "audit" / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(good | change))
    with pytest.raises(DataError, match=r"expected the summary of an audit|which is of another"):
        STUDY.run(config.model_copy(update={"audit": str(tmp_path)}), tmp_path / "run")
