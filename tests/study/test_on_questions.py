"""The skeleton of studies on questions, by the smallest kind: how likely the likeliest choice is."""

import json
from typing import Literal

import pytest
from records.made import rows_in
from study.configs import small_study

from c3po_adaptive.errors import DataError, PluginError
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study import OnQuestions, Ours, Record, StudyOnQuestions, Table, Worker


class Sure(OnQuestions):
    """How sure the model is."""

    kind: Literal["sure"]


class Row(Record):
    """the record of how sure an answer is"""

    share: float


class Summary(Ours):
    """the summary of a study of sureness"""

    shares: list[float]


class Asking(Worker[Sure]):
    def rows(self, piece):
        if piece.batch == 2 and self.config.seed:
            raise PluginError("the third batch failed")
        asked = self.batch(piece)
        known = {"arm": piece.arm, "dataset": piece.dataset, "seed": self.config.seed}
        shares = [float(scores.softmax(-1).max()) for scores in self.model.score_choices(asked)]
        return tuple(Row(id=q.id, share=share, **known) for q, share in zip(asked, shares, strict=True))


class HowSure(StudyOnQuestions[Sure, Asking]):
    kind = "sure"
    config, worker, record, summary = Sure, Asking, Row, Summary

    def arms(self, config):
        return [("base", 0)]

    def told(self, worker, weights):
        return {"layers": list(weights.layers)}, ["asked once"]

    def summarize(self, records, worker):
        return Summary(shares=[r.share for r in records])

    def page(self, summary, made):
        return f"{len(summary.shares)} answers of {made['model']}"

    def table(self, summary):
        return Table(("answers",), [[str(len(summary.shares))]])


STUDY, REGISTRY = HowSure(), new_registry(installed=False)


@pytest.fixture
def config(tmp_path):
    small = small_study(tmp_path)
    return Sure(kind="sure", model=small.model, datasets=small.datasets, batch_size=5)


def test_it_is_run_gone_on_with_and_drawn_again(config, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(PluginError, match="third batch"):
        STUDY.run(config.model_copy(update={"seed": 1}), tmp_path / "failed", REGISTRY)
    assert len(rows_in(tmp_path / "failed")) == 10, "the others are kept"
    assert not (tmp_path / "failed" / "summary.json").exists()
    with pytest.raises(DataError, match="run to the end"):
        list(STUDY.draw(tmp_path / "failed"))
    whole = STUDY.run(config, out, REGISTRY)
    assert (out / "report.html").read_text() == "12 answers of " + config.model
    kept = (out / "records.jsonl").read_text().splitlines(keepends=True)
    (out / "records.jsonl").write_text("".join(kept[:7]))
    assert STUDY.run(config, out, REGISTRY) == whole
    (out / "report.html").unlink()
    list(STUDY.draw(out))
    assert (out / "report.html").exists()


def test_its_plan_counts_its_answers(config):
    plan = STUDY.plan(config, REGISTRY)
    assert json.loads(json.dumps(plan.values))["forecast"]["answers"] == 12
    assert "asked once" in plan.lines
