"""Faults whose truth is known: bounds win back what is lost, chance nothing, and habits and leaks are no findings."""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from c3po_faults.answer import FaultAnswer, area_under_curve
from c3po_faults.fault_layers import FaultLayers
from c3po_faults.fault_undone import FaultUndone
from c3po_faults.faults import Fault
from c3po_faults.planting import planted, undone_at_tails
from c3po_faults.rows import FoundRow
from c3po_faults.sound_routing import SoundRouting
from c3po_faults.study import Faults
from c3po_faults.summary import _corrected, summarize
from records.made import rows_in
from remixing.test_remixer import remixer
from routing.naive import shared_model
from routing.toys import HashEmbedder, questions
from typer.testing import CliRunner

from c3po_adaptive import LayerSelector, Selection, hookimpl
from c3po_adaptive.answerers import AnsweringContext
from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.optimizers.none import NoStep
from c3po_adaptive.optimizers.random_change import RandomChange
from c3po_adaptive.records.jsonl import Records, read_records
from c3po_adaptive.registry import new_registry
from c3po_adaptive.remixing.remixer import Remixer
from c3po_adaptive.remixing.strategies import Strategies
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.selectors.fixed import Fixed
from c3po_adaptive.selectors.random_layers import RandomLayers
from c3po_adaptive.settings import DEFAULTS
from c3po_adaptive.tasks.formats import as_format
from c3po_adaptive.testing import write_tiny_checkpoint
from c3po_adaptive.types import Prompt

PAIRS = ((0, 1), (2, 5), (3, 4), (6, 7))


def one_token(model):
    """Options of one token each: what is lost is lost at the prompt's last token, which ω replaces."""

    def put(question):
        count = len(question.choices)
        ids = model.encode(question).ids
        return Prompt(ids, tuple((20 + 3 * i,) for i in range(count)), (1.0,) * count)

    return put


def told(model, optimizer, selector, **how):
    """A remixer without references."""
    return Remixer(model, None, Strategies(optimizer, Gaussian(), FaissKNN(), selector), HashEmbedder(), **how)


ASKED = questions(12, "t")
STUDY = Faults()


class TestBounds:
    """Where a layer's mass is one, as in the embedded model, what was lost at the last token can all be won back."""

    def won_back(self, fault, optimizer, selector):
        """The share of what sound routing at the last token would change in the scores."""
        model = planted(shared_model("mixtral"), fault)
        put = one_token(model)
        reached = undone_at_tails(model, [put(q) for q in ASKED])
        answers = told(model, optimizer, selector, put=put).answer(ASKED)
        lost = won = 0.0
        for answer, best in zip(answers, reached, strict=True):
            got, base = (torch.tensor(scores) for scores in (answer.scores, answer.base_scores))
            far = float((base - best.scores()).abs().sum())
            lost, won = lost + far, won + far - float((got - best.scores()).abs().sum())
        assert lost > 1
        return won / lost

    @pytest.mark.parametrize("layers", [(2,), (1, 2), (0, 1, 2)], ids=str)
    @pytest.mark.parametrize("dose", [0.1, 0.5, 1.0])
    def test_told_the_truth_all_that_was_lost_is_won_back(self, layers, dose):
        assert self.won_back(Fault("exchange", layers, PAIRS, dose=dose), FaultUndone(), FaultLayers()) > 0.99

    def test_and_of_other_faults(self):
        for fault in (
            Fault("weaken", (1, 2), experts=(0, 3), dose=0.8),
            Fault("strengthen", (1, 2), experts=(0, 3), dose=2.0),
            Fault("noise", (1, 2), dose=0.5),
        ):
            assert self.won_back(fault, FaultUndone(), FaultLayers()) > 0.99

    def test_random_changes_and_other_layers_win_back_nothing(self):
        fault, elsewhere = Fault("exchange", (2,), PAIRS), Fixed(layers=(0, 1), experts=8)
        assert self.won_back(fault, RandomChange(FaultUndone()), FaultLayers()) < 0.1
        assert self.won_back(fault, FaultUndone(), elsewhere) == 0
        assert self.won_back(fault, FaultUndone(), RandomLayers(n=1, experts=8)) < 0.5, "one layer in three is broken"

    def test_at_every_token_it_is_the_sound_model(self):
        model = shared_model("qwen2_moe")
        faulty = planted(model, Fault("exchange", (1, 2), PAIRS))
        strategies = Strategies(NoStep(), Gaussian(), FaissKNN(), Fixed(n=0))
        bench = AnsweringContext(
            faulty, strategies, HashEmbedder(), as_format("cloze"), DEFAULTS, 32, frozenset(), lambda: None
        )
        everywhere, at_answers = (SoundRouting(tokens).prepare(bench) for tokens in ("all", "answer"))
        assert everywhere.needs_label
        wanted = [tuple(s.tolist()) for s in model.score_choices(ASKED)]
        for answer, scores in zip(everywhere.answer(ASKED), wanted, strict=True):
            assert answer.scores == pytest.approx(scores, abs=1e-5)
        between = at_answers.answer(ASKED)
        for answer, scores in zip(between, wanted, strict=True):
            assert answer.scores != answer.base_scores
            assert answer.scores != pytest.approx(scores, abs=1e-5)
        with pytest.raises(SettingError, match="tokens"):
            SoundRouting("some")

    def test_it_is_the_bound_s_declaration_that_lets_it_see(self):
        model = planted(shared_model("qwen2_moe"), Fault("exchange", (2,), PAIRS))
        seen = []

        @dataclass(frozen=True)
        class Peeping(RandomLayers):
            name: ClassVar[str] = "peeping"

            def select(self, problem):
                seen.append(problem.truth)
                return super().select(problem)

        told(model, NoStep("core"), Peeping(n=1, experts=8)).answer(ASKED[:2])
        assert seen == [None]
        assert not told(model, NoStep("core"), Peeping(n=1, experts=8)).needs_label

        @dataclass(frozen=True)
        class Declared(Peeping):
            name: ClassVar[str] = "declared"
            needs_truth: ClassVar[bool] = True

        declared = told(model, NoStep("core"), Declared(n=1, experts=8))
        declared.answer(ASKED[:2])
        assert seen[1].broken.tolist() == [False, False, True]
        assert declared.needs_label, "its answers are an upper bound"

    def test_nothing_is_done_to_a_model_without_a_fault(self):
        for fault in (Fault("exchange", (2,), PAIRS, dose=0.0), Fault("exchange", (), PAIRS)):
            model = planted(shared_model("qwen2_moe"), fault)
            for answer in told(model, FaultUndone(), FaultLayers()).answer(ASKED):
                assert answer.layers == ()
                assert answer.scores == answer.base_scores

    def test_a_model_of_which_nothing_is_known_is_refused(self):
        for optimizer, selector in ((FaultUndone(), Fixed(n=1, experts=8)), (NoStep("core"), FaultLayers())):
            with pytest.raises(SettingError, match="with a known fault"):
                told(shared_model("qwen2_moe"), optimizer, selector).answer(ASKED[:2])

    def test_references_are_not_needed(self):
        assert remixer("qwen2_moe", optimizer=NoStep(), selector=Fixed(n=1, experts=6)) is not None
        assert not Strategies(FaultUndone(), Gaussian(), FaissKNN(), FaultLayers()).needs_references


def test_area_under_the_curve():
    broken = np.array([True, False, True, False])
    scores = np.array([[3.0, 1, 4, 2], [1, 3, 2, 4], [1, 1, 1, 1], [2, 1, 2, 3]])
    assert area_under_curve(scores, broken).tolist() == [1, 0, 0.5, 0.5]


@dataclass(frozen=True)
class Habit(LayerSelector):
    """The broken layers, which it has from elsewhere, whatever is planted."""

    name: ClassVar[str] = "habit"
    needs_neighbours: ClassVar[bool] = False

    def select(self, problem):
        mask = torch.zeros_like(problem.own, dtype=torch.bool)
        mask[:, 1:] = True
        return Selection(mask)


class Plugin:
    @hookimpl
    def register_layer_selectors(self):
        return [Habit]


SETTINGS = {
    "kind": "faults", "model": "model", "batch_size": 6, "format": "letter",
    "datasets": [{"name": "toys", "questions": "asked.jsonl", "split": None, "references": ["references.jsonl"]}],
    "arm": {"retriever": {"name": "faiss-knn", "k": 8}, "learn_from": "all", "loss": "lead"},
    "faults": {
        "late": {"kind": "exchange", "layers": "last-2", "pairs": PAIRS, "doses": [0.5, 1.0]},
        "nowhere": {"kind": "exchange", "layers": "none", "pairs": PAIRS},
    },
    "selectors": {
        "told": "fault-layers", "amortized": {"name": "amortized", "n": 2, "experts": 5},
        "random": {"name": "random", "n": 2, "experts": 5},
    },
    "optimizers": {"undone": "fault-undone", "descent": {"name": "amortized-ngd", "steps": 2}},
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    write_tiny_checkpoint(folder / "model", "qwen2_moe")
    for name, count in (("references", 16), ("asked", 12)):
        rows = [
            {"id": f"{name}-{i}", "question": f"How much is {i} and {len(name)}?",
             "choices": [str(i + len(name) + k) for k in range(3)], "answer": i % 3}
            for i in range(count)
        ]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(json.dumps(SETTINGS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def ran(place):
    result = CliRunner().invoke(app, ["study", "run", "config.yaml", "--out", "out"])
    assert result.exit_code == 0, result.output
    return place / "out"


def rows_of(summary, **wanted):
    """As they stand in files."""
    rows = summary["rows"] if isinstance(summary, dict) else summary.model_dump(mode="json")["rows"]
    return [r for r in rows if all(r[key] == value for key, value in wanted.items())]


class TestStudy:
    def test_a_row_for_each_model_arm_and_question(self, ran):
        rows = rows_in(ran)
        config = STUDY.parse(SETTINGS)
        assert list(config.cells) == ["sound", "late, dose 0.5", "late, dose 1", "nowhere, dose 1"]
        assert len(config.arms) == 7
        assert {(r["arm"], r["id"]) for r in rows} == {(a, f"asked-{i}") for a in config.parts for i in range(12)}
        assert any(r["concerned"] for r in rows)
        assert not any(r["concerned"] for r in rows if r["arm"].startswith(("sound", "nowhere")))
        assert all(r["needs_label"] for r in rows if r["arm"].endswith(("| undone", "| told | descent")))

    def test_summary(self, ran):
        summary = json.loads((ran / "summary.json").read_text())
        assert {(r["fault"], r["dose"]) for r in summary["rows"]} == {
            ("late", 0), ("late", 0.5), ("late", 1), ("nowhere", 0), ("nowhere", 1)
        }  # fmt: skip
        for row in summary["rows"]:
            for name in ("auc", "precision", "recall", "won_back", "harm", "cosine"):
                if row[name] is not None:
                    assert row[f"{name}_ci_low"] <= row[name] <= row[f"{name}_ci_high"]
        (bound,) = rows_of(summary, fault="late", dose=1, selector="told", optimizer="undone")
        assert (bound["role"], bound["finds"], bound["auc"], bound["recall"]) == ("bound", "upper bound", 1, 1)
        assert bound["cosine"] == pytest.approx(1, abs=0.02), "but for masses, which sound routing has others of"
        assert bound["expert_precision"] == bound["expert_recall"] == 1
        assert bound["loss_won_back_in_reach"] is None or bound["loss_won_back_in_reach"] > 0.5
        for row in rows_of(summary, selector="random", optimizer="descent"):
            assert row["role"] == "control"

    def test_no_dose_and_nowhere_are_no_findings(self, ran):
        summary = json.loads((ran / "summary.json").read_text())
        for row in [*rows_of(summary, dose=0), *rows_of(summary, fault="nowhere")]:
            assert row["finds"] in ("nothing planted", "upper bound")
            assert row["won_back"] is row["loss_won_back"] is None
            assert row["concerned"] == 0
            if row["selector"] == "told":
                assert row["harm"] == 0, "nothing to do, nothing done"
        for fault in summary["faults"]:
            if fault["dose"] == 0 or fault["fault"] == "nowhere":
                assert fault["lost"] == fault["loss_lost"] == 0
                assert fault["loss_in_reach"] == pytest.approx(0, abs=1e-4)

    def test_a_page_with_pictures(self, ran):
        page = (ran / "report.html").read_text()
        assert page.count("<svg") >= 2
        assert "Share of the lost loss" in page
        assert "late × 1: told, undone" in page

    def test_interrupted_it_resumes(self, ran, place):
        rows = read_records(ran, FaultAnswer)
        out = place / "again"
        out.mkdir()
        (out / "config.json").write_text((ran / "config.json").read_text())
        part = Records(out, FaultAnswer)
        for row in rows[: len(rows) // 2 + 1]:
            part.append(row)
        result = CliRunner().invoke(app, ["study", "run", "config.yaml", "--out", "again"])
        assert result.exit_code == 0, result.output
        one, other = (json.loads((folder / "summary.json").read_text()) for folder in (ran, out))
        assert one["rows"] == other["rows"]

    def test_habits_are_told_from_findings(self, place):
        """Who leans there whatever is planted finds nothing; who does so only where it is, does."""
        registry = new_registry()
        registry.register(Plugin(), "planted")
        given = SETTINGS | {
            "selectors": {"habit": "habit", "random": {"name": "random", "n": 2, "experts": 5}},
            "optimizers": {"mixed": {"name": "none", "start": "core"}},
            "faults": {"late": SETTINGS["faults"]["late"] | {"doses": [1.0]}},
        }
        summary = STUDY.run(STUDY.parse(given), place / "habits", registry=registry)
        (habit,) = rows_of(summary, selector="habit", dose=1)
        assert habit["auc"] == 1
        assert habit["finds"] == "leans there anyway"
        (chance,) = rows_of(summary, selector="random", dose=1)
        assert chance["finds"] == "not found"

    def test_what_is_found_only_where_it_is_planted_is_a_finding(self, ran):
        """By hand: the records of random layers, made to lie in the broken ones at dose one."""

        def as_found(row):
            right = (1, 2) if row.arm.startswith("late") else (0,)
            return row.model_copy(update={"layers": right, "scored": ()}) if "| random |" in row.arm else row

        summary = summarize([as_found(r) for r in read_records(ran, FaultAnswer)], STUDY.parse(SETTINGS), (0, 1, 2))
        for row in rows_of(summary, selector="random", optimizer="descent", fault="late"):
            assert row["finds"] == ("found" if row["dose"] else "nothing planted")

    def test_what_is_found_once_among_many_looks_is_taken_back(self):
        looks = [("method", p, "found") for p in (0.001, 0.03)] + 8 * [("method", 0.9, "not found")]
        looks += [("bound", 0.0, "upper bound")]
        rows = [FoundRow.model_construct(role=role, dose=1, auc_p=p, finds=finds) for role, p, finds in looks]
        first, second, *_, bound = _corrected(rows, "auc", "finds", "not found")
        assert (first.finds, second.finds) == ("found", "not found")
        assert first.auc_p_holm == pytest.approx(0.01)
        assert (bound.finds, bound.auc_p_holm) == ("upper bound", None)

    def test_unfinished_records_make_no_summary(self, ran):
        with pytest.raises(DataError, match="run it to the end"):
            summarize(read_records(ran, FaultAnswer)[:-1], STUDY.parse(SETTINGS), (0, 1, 2))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"faults": {}}, "faults"),
        ({"faults": {"a": {"layers": "last-2"}}}, "Expected pairs"),
        ({"faults": {"a": {"layers": "last-2", "pairs": [[1, 1]]}}}, "with itself"),
        ({"faults": {"a": {"layers": "last-2", "pairs": [[1, 2]], "doses": [1, 0.5]}}}, "rising doses"),
        ({"faults": {"a": {"layers": "last-2", "pairs": [[1, 2]], "doses": [2]}}}, "dose"),
        ({"arm": {"answerer": "lora"}}, "re-mixes"),
        ({"selectors": {}}, "selectors"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(changes, said):
    with pytest.raises(SettingError, match=said):
        STUDY.parse(SETTINGS | changes)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"layers": "last-9", "pairs": [[1, 2]]}, "Fault a: Expected from 1 to 3 layers"),
        ({"layers": [7], "pairs": [[1, 2]]}, r"Fault a: Expected layers of a fault among .* got \[7\]"),
        ({"layers": "all", "pairs": [[1, 8]]}, "Fault a: Expected experts from 0 to 7"),
    ],
)
def test_a_model_that_cannot_have_it_is_refused(place, fault, said):
    with pytest.raises(SettingError, match=said):
        STUDY.run(STUDY.parse(SETTINGS | {"faults": {"a": fault}}), place / "refused")
    assert not (place / "refused").exists()
