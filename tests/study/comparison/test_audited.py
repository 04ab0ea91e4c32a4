"""A run that names an audit: its sentence in the report, and what a null result is then called."""

import pytest
from records.made import plain
from study.configs import small_study

from c3po_adaptive import DataError, load_moe_model
from c3po_adaptive.audit import audit, leverage_line, summary_of
from c3po_adaptive.study.comparison.evaluation import evaluate
from c3po_adaptive.tasks import questions
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small study, and an audit of its model and of another."""
    folder = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        config = small_study(folder)
        asked = questions(folder / "test.jsonl")
        audit(load_moe_model(folder / "model"), asked[:4], folder / "audit", rates=[0.1])
        other = load_moe_model(write_tiny_checkpoint(folder / "other", "olmoe", seed=1))
        audit(other, asked[:2], folder / "of another", rates=[0.1])
        yield folder, config


def test_its_sentence_stands_in_the_report_and_what_permuted_routers_cost_is_no_verdict(place):
    folder, config = place
    summary = plain(evaluate(config.model_copy(update={"audit": str(folder / "audit")}), folder / "run"))
    found = summary_of(folder / "audit")
    assert found.effect("permuted", "all tokens").accuracy.high >= 0, "four questions show nothing"
    assert summary["audit"] == leverage_line(found)
    assert found.sentence in (folder / "run" / "report.html").read_text().replace("&#39;", "'")
    rows = {row["arm"]: row for row in summary["rows"]}
    assert rows["ngd"]["verdict"] == "cannot tell"
    assert rows["ngd"]["because"].startswith("base (")
    assert "permuted" not in rows["ngd"]["because"]


def test_one_of_another_model_is_refused(place):
    folder, config = place
    with pytest.raises(DataError, match=r"Expected an audit of the run's model, got .*of another"):
        evaluate(config.model_copy(update={"audit": str(folder / "of another")}), folder / "refused")


def test_one_that_is_not_there_is_refused_before_anything_is_run(place):
    folder, config = place
    with pytest.raises(DataError, match="Expected an audit that was run to the end"):
        evaluate(config.model_copy(update={"audit": str(folder / "model")}), folder / "nothing")
    assert not (folder / "nothing").exists()
