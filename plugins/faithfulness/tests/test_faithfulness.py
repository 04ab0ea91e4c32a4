"""Truth, curves and metrics against closed forms; the study on a tiny model, interrupted anywhere."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import own_plugin
import pytest
import torch
from c3po_faithfulness.curves import Curves, area
from c3po_faithfulness.exchanged_routers import EXCHANGED, ExchangedRouters
from c3po_faithfulness.layer_effects import TRUTHS, truth
from c3po_faithfulness.metrics import RADIUS, infidelity, overlap, rank_correlation, sensitivity, separation
from c3po_faithfulness.places import placed
from c3po_faithfulness.record import ScoreRecord
from c3po_faithfulness.single_layer import Causal
from c3po_faithfulness.study import Faithfulness
from c3po_faithfulness.summary import CONTROLS
from records.made import rows_in
from remixing.test_remixer import remixer
from routing.naive import routed_model, shared_model
from routing.toys import questions
from study.configs import load_config, registry_of
from typer.testing import CliRunner

from c3po_adaptive import Attribution, router_tensors, with_tensors
from c3po_adaptive.attribution import METHODS
from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.optimizers.ngd import NGD
from c3po_adaptive.optimizers.none import NoStep
from c3po_adaptive.records.jsonl import Records, read_records
from c3po_adaptive.selectors.gradient import Gradient
from c3po_adaptive.tasks import questions as read
from c3po_adaptive.testing import altered, toy_problem, write_tiny_checkpoint

BENEFITS = torch.tensor([0.0, 3.0, 0.5, -2.0, 0.0, 1.0])


def by_hand(problem):
    """The label's loss falls by ``BENEFITS`` times as much as a layer moves, and layers do not know of each other."""

    def label_loss(weights, running=None):
        return 10 - ((weights - problem.own).abs().sum(-1) * BENEFITS).sum(-1)

    return altered(problem, label_loss=label_loss)


@pytest.fixture
def problem():
    return by_hand(toy_problem(selected=None, labeled=True))


class TestTruth:
    def test_of_layers_that_do_not_depend_on_each_other(self, problem):
        """Alone and left out come to the same, and have the benefits' signs; the neighbours' loss always falls."""
        found = truth(problem, NGD(steps=6, lr=0.05), 8)
        torch.testing.assert_close(found.effects["alone, own"], found.effects["without, own"], atol=1e-5, rtol=0)
        assert torch.equal(found.effects["alone, own"].sign(), BENEFITS.sign().expand(3, -1))
        for name in ("alone, neighbours", "without, neighbours"):
            assert (found.effects[name] > 0).all()
        moved = (found.everywhere - problem.own).abs().sum(-1)
        torch.testing.assert_close(found.effects["alone, own"], moved * BENEFITS, atol=1e-5, rtol=0)

    def test_the_optimizer_does_not_see_the_label(self, problem):
        def label_loss(weights, running=None):
            assert not weights.requires_grad, "nobody may go down this loss"
            return problem.label_loss(weights)

        truth(altered(problem, label_loss=label_loss), NGD(steps=2), 8)


@pytest.mark.parametrize("scope", ["last", "answer"])
def test_who_takes_no_step_changes_nothing(scope):
    """On a real model, where the neighbours' losses of different selections are different functions."""
    batch = remixer("olmoe", optimizer=NoStep(), scope=scope, selector=Gradient(n=2, experts=6)).labeled(
        questions(4, "t")
    )
    problem = batch.problem(labeled=True)
    assert batch.pairs.numel()
    for values in truth(problem, NoStep(), 6).effects.values():
        assert values.abs().max() < 1e-5
    assert Causal(n=2, experts=6, optimizer=NoStep()).score(problem.unlabeled())[0].abs().max() < 1e-5


def test_the_papers_twenty_experts_are_all_of_fewer():
    """As the configuration has them where it says nothing."""
    batch = remixer("olmoe", optimizer=NGD(steps=1), selector=Gradient(n=2, experts=6)).labeled(questions(2, "t"))
    found = truth(batch.problem(labeled=True), NGD(steps=1), 20).everywhere
    assert torch.equal(found, truth(batch.problem(labeled=True), NGD(steps=1), found.shape[-1]).everywhere)


class TestExchangedRouters:
    @pytest.fixture
    def broken(self):
        """A model, the same with the rows of one router the other way round, and which layer that is."""
        model = shared_model("olmoe")
        site = model.sites[1]
        (name, rows), *_ = router_tensors(model.model, site).items()
        return with_tensors(model, {name: rows.flip(0)}), model, 1

    def test_the_one_router_that_differs_is_all_the_difference(self, broken):
        here, sound, layer = broken
        asked = questions(3, "t")
        prompts = [sound.encode(q, "cloze") for q in asked]
        answers = torch.tensor([q.answer for q in asked])
        found = ExchangedRouters(here, sound).effects(prompts, answers, "choices")
        assert set(found) == set(EXCHANGED)
        losses = [
            torch.stack(
                [-m.choice_scores(m.prefill([p]))[0].log_softmax(0)[a] for p, a in zip(prompts, answers, strict=True)]
            )
            for m in (here, sound)
        ]
        for values in found.values():
            torch.testing.assert_close(values[:, layer], losses[0] - losses[1], atol=1e-5, rtol=1e-4)
            assert values[:, layer].abs().max() > 1e-3
            rest = values[:, [i for i in range(values.shape[1]) if i != layer]]
            assert rest.abs().max() < 1e-5

    @pytest.mark.parametrize(
        ("family", "said"), [("qwen2_moe", "has other tensors"), ("olmoe", "has other numbers in")]
    )
    def test_a_model_that_differs_in_more_is_refused(self, broken, family, said):
        with pytest.raises(SettingError, match=said):
            ExchangedRouters(broken[0], routed_model(family, seed=1))


class TestCurves:
    def test_best_first_is_above_all_orders(self, problem):
        everywhere = truth(problem, NGD(steps=6, lr=0.05), 8).everywhere
        effect = (everywhere - problem.own).abs().sum(-1) * BENEFITS
        curves, points = Curves(problem, everywhere), (1, 2, 3)
        got = curves.insertion(effect, points)
        ranked = effect.sort(-1, descending=True).values.cumsum(-1)
        torch.testing.assert_close(got, ranked[:, :3], atol=1e-5, rtol=0)
        left = curves.deletion(effect, points)
        torch.testing.assert_close(left, effect.sum(-1, keepdim=True) - ranked[:, :3], atol=1e-5, rtol=0)
        for seed in range(5):
            order = torch.rand(3, 6, generator=torch.Generator().manual_seed(seed))
            assert (curves.insertion(order, points) <= got + 1e-6).all()
            assert (curves.deletion(order, points) >= left - 1e-6).all()

    def test_layers_of_a_sample_are_run_once(self, problem):
        ran = []

        def counted(weights, running=None):
            ran.append(running)
            return problem.label_loss(weights, running)

        curves = Curves(replace(problem, label_loss=counted), truth(problem, NGD(steps=2), 8).everywhere)
        layers = torch.eye(6, dtype=torch.bool)[:3]
        first = curves.fall(layers)
        assert curves.fall(layers).equal(first)
        other = layers.clone()
        other[1, 5] = True
        again = curves.fall(other)
        assert again[[0, 2]].equal(first[[0, 2]])
        assert again[1] != first[1]
        assert [r if r is None else r.tolist() for r in ran] == [None, [True, True, True], [False, True, False]]

    def test_area_is_the_mean_over_all_numbers_of_layers(self):
        curve, ends = torch.ones(2, 3), (torch.ones(2), torch.ones(2))
        assert area(curve, (1, 3, 5), *ends, 15).tolist() == pytest.approx([1, 1])
        rising = torch.tensor([[1.0, 2.0, 3.0]])
        assert area(rising, (1, 2, 3), torch.zeros(1), torch.full((1,), 4.0), 4).item() == pytest.approx(2)
        assert area(rising[:, :1], (2,), torch.zeros(1), torch.zeros(1), 4).item() == pytest.approx(0.5)

    def test_equal_scores_are_taken_in_one_order(self, problem):
        everywhere = truth(problem, NGD(steps=6, lr=0.05), 8).everywhere
        level, total = torch.zeros(3, 6), problem.label_loss(problem.own) - problem.label_loss(everywhere)
        for k in range(1, 6):
            curves = Curves(problem, everywhere)
            together = curves.insertion(level, (k,)) + curves.deletion(level, (k,))
            torch.testing.assert_close(together.squeeze(1), total, atol=1e-5, rtol=0)


class TestMetrics:
    def test_rank_correlation(self):
        scores = np.array([[1.0, 2, 3], [3, 2, 1], [1, 1, 1], [1, 1, 2]])
        got = rank_correlation(scores, np.array([[10.0, 20, 30]] * 4))
        np.testing.assert_allclose(got, [1, -1, 0, np.sqrt(3) / 2])

    def test_overlap(self):
        got = overlap(np.array([[1.0, 2, 3, 4], [4, 3, 2, 1]]), np.array([[0.0, 0, 1, 2]] * 2), 2)
        np.testing.assert_allclose(got, [1, 0])

    def test_separation(self):
        """The chance that a marked layer is above another one, ties half."""
        scores = np.array([[4.0, 3, 2, 1], [1, 2, 3, 4], [4, 2, 3, 1], [1, 1, 1, 1]])
        got = separation(scores, np.array([True, True, False, False]))
        np.testing.assert_allclose(got, [1, 0, 0.75, 0.5])

    def test_places_tell_more_together_than_each_by_itself(self):
        """Of the two that are not marked each question puts another one first, and marked ones in between."""
        values = np.array([[3.0, 1, 4, 0], [3, 1, 0, 4], [1, 3, 4, 0], [1, 3, 0, 4]])
        marked, kinds = np.array([True, True, False, False]), [list("aabb")]

        def found(values, marked):
            row = placed("d", "s", None, [values], kinds, marked, 0)
            return row, [x and x.mean for x in (row.marked, row.marked_by_kind, row.marked_by_all)]

        assert found(values, marked)[1] == [0.5, 0.5, 0.5]
        row, areas = found(values + np.array([2, 2, 0, 0]), marked)
        assert areas == [0.75, 0.75, 1] and row.marked_by_all.ci_low < 1 == row.marked_by_all.ci_high
        assert found(values, np.ones(4, dtype=bool))[1] == [None, None, None]

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("experts", [4, 20])
    def test_infidelity_of_a_linear_function_is_zero(self, method, experts):
        """Nobody is better or worse at foretelling it, with as many core experts as the model uses (4) or more."""
        problem = toy_problem(selected=None)
        linear = altered(problem, loss=lambda w, running=None: (w * torch.arange(24.0)).sum((1, 2)))
        selector = Attribution(method=method, experts=experts, steps=20, draws=3, budget=300)
        assert infidelity(linear, selector, 5, 0).abs().max() < 1e-5
        assert infidelity(problem, selector, 5, 0).min() > 1e-5, "the toy's own loss bends"

    def test_infidelity_of_saying_nothing_is_one(self):
        problem = toy_problem(selected=None)
        flat = altered(problem, scores=lambda w, running=None: problem.scores(w.detach()) + 0 * w.sum((1, 2))[:, None])
        silent = Attribution(method="saliency", of="margin", experts=6)
        assert infidelity(flat, silent, 5, 0).tolist() == pytest.approx([1, 1, 1])

    def test_sensitivity_moves_by_the_radius(self, monkeypatch):
        moves, problem = [], toy_problem(selected=None)
        attribute = Attribution.attribute

        def watched(self, problem, omega=None):
            moves.append(0.0 if omega is None else (omega - problem.own).abs().max().item())
            return attribute(self, problem, omega)

        monkeypatch.setattr(Attribution, "attribute", watched)
        sensitivity(problem, Attribution(method="saliency", experts=20), 8, 0)
        assert 0.8 * RADIUS < max(moves) <= 1.001 * RADIUS

    def test_sensitivity_of_a_linear_function(self):
        """Its saliency is the same everywhere; the toy's own loss bends, and its gradient moves with Ω."""
        problem = toy_problem(selected=None)
        linear = altered(problem, loss=lambda w, running=None: (w * torch.arange(24.0)).sum((1, 2)))
        selector = Attribution(method="saliency", experts=6)
        assert sensitivity(linear, selector, 3, 0).tolist() == [0, 0, 0]
        assert (sensitivity(problem, selector, 3, 0) > 1e-3).all()


study_of_faithfulness = partial(Faithfulness().run, registry=registry_of(own_plugin.FILE))
SCORES = {
    "gradient": {"name": "gradient", "experts": 5},
    "shapley": {"name": "attribution", "method": "shapley-sampling", "experts": 5, "draws": 2},
    "amortized": {"name": "amortized", "experts": 5},
    "learned": {"name": "practised", "experts": 5, "training": 32},
    "bound": {"name": "oracle-layers", "experts": 5, "optimizer": {"name": "ngd", "steps": 2}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faithfulness")
    write_tiny_checkpoint(folder / "model", "qwen2_moe")
    for name, count in (("references", 40), ("asked", 6)):
        rows = [
            {"id": f"{name}-{i}", "task": ("sum", "difference")[i % 2], "question": f"How much is {i} and {len(name)}?",
             "choices": [str(i + len(name) + k) for k in range(3)], "answer": i % 3}
            for i in range(count)
        ]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "kind": "faithfulness", "model": "model", "arm": {"optimizer": {"name": "ngd", "steps": 2}},
        "datasets": [{"name": "sums", "questions": "asked.jsonl", "split": None, "references": ["references.jsonl"]}],
        "scores": SCORES, "experts": 5, "n": 2, "points": [1, 2], "probed": 3, "moves": 4, "batch_size": 3,
    }  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def ran(place):
    result = CliRunner().invoke(app, ["study", "run", "config.yaml", "--out", "out", "--plugin", str(own_plugin.FILE)])
    assert result.exit_code == 0, result.output
    return place / "out", result.output


def _changed(asked):
    return [replace(q, question=q.question + "!") for q in asked]


def _still(page):
    """A page without what pictures number anew."""
    return re.sub(r'id="[^"]*"|url\(#[^)]*\)|href="#[^"]*"|<dc:date>.*?</dc:date>', "", page)


class TestStudy:
    def test_a_row_for_each_question_and_score(self, ran):
        rows = rows_in(ran[0])
        assert {(r["arm"], r["id"]) for r in rows} == {
            (a, f"asked-{i}") for a in [*SCORES, *CONTROLS, "truth"] for i in range(6)
        }
        shapley = [r for r in rows if r["arm"] == "shapley"]
        assert all(len(r["values"]) == 3 for r in shapley)
        assert [(r["infidelity"] is not None, r["sensitivity"] is not None) for r in shapley] == [(True, True)] * 3 + [
            (False, False)
        ] * 3
        assert all(-1 <= r["other_seed"] <= 1 for r in shapley[:3])
        assert not any(r["other_seed"] for r in shapley[3:])
        costs = {a: np.mean([r["cost"] for r in rows if r["arm"] == a]) for a in SCORES}
        assert costs["amortized"] == costs["learned"] == 0 < costs["gradient"] < min(costs["shapley"], costs["bound"])

    def test_summary(self, ran):
        summary = json.loads((ran[0] / "summary.json").read_text())
        assert [r["score"] for r in summary["rows"]] == [*SCORES, *CONTROLS]
        bound = summary["rows"][len(SCORES) - 1]
        assert bound["alone, own"]["mean"] == pytest.approx(1, abs=0.02), "it is that truth"
        assert bound["best, own"]["mean"] == pytest.approx(1, abs=0.1)
        for row in summary["rows"]:
            for name in TRUTHS:
                assert -1 <= row[name]["ci_low"] <= row[name]["mean"] <= row[name]["ci_high"] <= 1
            own, chance = (r["insertion"]["mean"] for r in (row, summary["rows"][-1]))
            assert row["beside_random"]["mean"] == pytest.approx(own - chance, abs=1e-9)
        assert [r["score"] for r in summary["rows"] if r["beside_random"]["ci_low"] == 0] == ["random layers"]
        known = {r["score"] for r in summary["rows"] if r["other_neighbours"]}
        assert known == {"gradient", "shapley", "amortized"}, (
            "what learned from all references is not compared with itself"
        )
        assert [r["kind"] for r in summary["layers"]] == ["sum", "difference"]
        assert all(len(r["effect"]) == 3 for r in summary["layers"])

    def test_report_and_words(self, ran):
        page = (ran[0] / "report.html").read_text()
        assert "Which layers matter" in page
        assert all(name in page for name in SCORES)
        assert page.count("<svg") == 3
        assert "how well marked layers are separated" not in page, "none are"
        assert "sums" in ran[1]

    def test_beside_a_model_whose_routers_are_right(self, place):
        """Here the same model: no router of it is better, and a score tells marked layers from others."""
        how = ["--set", "beside=model", "--set", "marked=[1]", "--set", "neighbours=false", "--out", "beside"]
        done = CliRunner().invoke(app, ["study", "run", "config.yaml", *how, "--plugin", str(own_plugin.FILE)])
        assert done.exit_code == 0, done.output
        summary = json.loads((place / "beside" / "summary.json").read_text())
        assert summary["truths"] == [*TRUTHS[:2], *EXCHANGED]
        places = {row["of"]: row for row in summary["places"]}
        assert places.keys() == {*SCORES, *CONTROLS, *summary["truths"]}
        assert places["last layers"]["places"] == [0, 0.5, 1]
        assert places["set right"]["role"] is None and places["set right"]["places"] == [0.5] * 3
        for how in ("marked", "marked_by_kind", "marked_by_all"):
            assert places["last layers"][how] == {"mean": 0.5, "ci_low": 0.5, "ci_high": 0.5}, (
                "of three it is the second"
            )
            assert all(0 <= row[how]["ci_low"] <= row[how]["ci_high"] <= 1 for row in places.values())
        truths = [r["effects"] for r in rows_in(place / "beside") if r["arm"] == "truth"]
        assert not any(x for effects in truths for name in EXCHANGED for x in effects[name])
        page = (place / "beside" / "report.html").read_text()
        assert "how well marked layers are separated" in page
        assert "Set right" in page
        assert "marked" in done.output

    def test_a_marked_layer_that_there_is_not_is_refused(self, place):
        how = ["--set", "marked=[7]", "--plugin", str(own_plugin.FILE)]
        done = CliRunner().invoke(app, ["study", "plan", "config.yaml", *how])
        assert done.exit_code
        assert "marked layers among the MoE layers" in " ".join(done.output.split())

    def test_interrupted_it_goes_on(self, ran, monkeypatch):
        class Stop(Exception):
            pass

        count, append = [0], Records.append

        def failing(self, row):
            count[0] += 1
            if count[0] == 14:
                raise Stop
            append(self, row)

        config, model = load_config("config.yaml"), load_moe_model("model")
        monkeypatch.setattr(Records, "append", failing)
        with pytest.raises(Stop):
            study_of_faithfulness(config, "again", model=model)
        monkeypatch.setattr(Records, "append", append)
        summary = study_of_faithfulness(config, "again", model=model)
        whole = json.loads((ran[0] / "summary.json").read_text())
        for one, other in zip(summary.rows, whole["rows"], strict=True):
            assert one.score == other["score"]
            assert one.correlation("alone, own").mean == pytest.approx(other["alone, own"]["mean"], abs=1e-3)

    def test_without_the_neighbours_loss(self, place):
        few = ["neighbours=false", "scores={amortized: {name: amortized, experts: 5}}"]
        summary = study_of_faithfulness(load_config("config.yaml", few), "own", model=load_moe_model("model"))
        assert summary.truths == ("alone, own", "without, own")
        assert "alone, neighbours" not in summary.rows[0].model_extra
        assert "Among the best 2: alone, own" in (place / "own" / "report.html").read_text()
        last = next(r for r in summary.rows if r.score == "last layers")
        assert last.last.mean == 1

    def test_plan(self, place):
        result = CliRunner().invoke(app, ["study", "plan", "config.yaml", "--plugin", str(own_plugin.FILE)])
        assert "sums: 6 questions, 40 references" in result.output
        assert "shapley" in result.output
        again = 7 + 1 + 2 * 2 * (len(SCORES) + len(CONTROLS))
        assert (
            f"re-mixed 7 times, with all steps of the optimizer over its neighbours each time, and asked up to {again}"
            in (" ".join(result.output.split()))
        )
        assert f"{6 * (7 + again):,} answers, plain ones" in result.output

    def test_plan_of_a_run_that_was_begun_says_how_long_the_rest_takes(self, place, ran):
        command = ["study", "plan", "config.yaml", "--plugin", str(own_plugin.FILE), "--begun"]
        told = CliRunner().invoke(app, [*command, str(ran[0])]).output
        assert "as 6 of 6 answers are finished" in told
        assert "truth: " in told
        seconds = [r["seconds"] for r in rows_in(ran[0]) if r["arm"] == "truth"]
        assert all(second > 0 for second in seconds)
        half = place / "half"
        half.mkdir()
        (half / "config.json").write_text((ran[0] / "config.json").read_text())
        first = [r for r in (ran[0] / "records.jsonl").read_text().splitlines() if '"id":"asked-0"' in r]
        (half / "records.jsonl").write_text("\n".join(first) + "\n")
        left = re.search(r"left: (\S+) hours, as 1 of 6", CliRunner().invoke(app, [*command, str(half)]).output)
        assert float(left[1]) == pytest.approx(5 * seconds[0] / 3600, rel=0.06)

    def test_progress_is_told_within_a_batch(self, place, monkeypatch):
        told = []

        def watched(items, label, total=None):
            told.append((label, len(items)))
            yield from items

        for module in ("layer_effects", "worker"):
            monkeypatch.setattr(f"c3po_faithfulness.{module}.bar", watched)
        few = ["neighbours=false", "scores={amortized: {name: amortized, experts: 5}}", "datasets.0.limit=3"]
        study_of_faithfulness(load_config("config.yaml", few), "told", model=load_moe_model("model"))
        assert told == [("3 questions: each layer alone, and left out", 6), ("3 questions: scores of layers", 1)]

    def test_scores_must_be_scores(self, place):
        config = load_config("config.yaml", ["+scores.fixed=fixed"])
        with pytest.raises(SettingError, match="selectors that score layers, got 'fixed'"):
            study_of_faithfulness(config, "no")
        with pytest.raises(SettingError, match=r"a study of faithfulness, got scores"):
            load_config("config.yaml", ["scores=1"])

    @pytest.mark.parametrize(("setting", "message"), [
        ("scores={truth: gradient}", r"scores: .*other names than truth"),
        ("points=[3, 1]", r"points: .*rising numbers of layers"),
        ("datasets.0.name=all", r"datasets: .*none of them 'all'"),
    ])  # fmt: skip
    def test_settings_are_checked(self, place, setting, message):
        with pytest.raises(SettingError, match=message):
            load_config("config.yaml", [setting])

    def test_what_there_is_too_little_for_is_found_first(self, place):
        model = load_moe_model("model")
        for setting, message in (
            ("scores.learned.training=50", "Score learned: Expected at least 50 references to train on, got 40"),
            ("scores.shapley.draws=30", "Score shapley: Expected at most budget=64 tail passes, .* takes 91 here"),
        ):
            with pytest.raises(SettingError, match=message):
                study_of_faithfulness(load_config("config.yaml", [setting]), "no", model=model)

    def test_numbers_of_layers(self, place):
        for setting in ("n=4", "points=[1, 3]"):
            with pytest.raises(SettingError, match="n of at most 3 and points below it"):
                study_of_faithfulness(load_config("config.yaml", [setting]), "no", model=load_moe_model("model"))

    def test_other_questions_under_the_same_ids_are_another_study(self, ran, place, monkeypatch):
        monkeypatch.setattr("c3po_adaptive.study.data.read_questions", lambda *a, **k: _changed(read(*a, **k)))
        with pytest.raises(DataError, match=r"they differ in inputs\.questions"):
            study_of_faithfulness(load_config("config.yaml"), ran[0], model=load_moe_model("model"))

    def test_unfinished_records_are_not_summarized(self, ran):
        from c3po_faithfulness.summary import summarize

        for lost in ("shapley", "truth"):
            rows = [r for r in read_records(ran[0], ScoreRecord) if (r.arm, r.id) != (lost, "asked-3")]
            with pytest.raises(DataError, match=f"got some without {lost}; run it to the end"):
                summarize(rows, load_config("config.yaml"), (0, 1, 2))

    def test_report_is_drawn_again(self, ran):
        page = (ran[0] / "report.html").read_text()
        (ran[0] / "report.html").unlink()
        result = CliRunner().invoke(app, ["report", str(ran[0])])
        assert result.exit_code == 0, result.output
        assert _still(ran[0].joinpath("report.html").read_text()) == _still(page)

    def test_neighbours_are_needed_where_they_are_looked_at(self, place):
        config = load_config("config.yaml", ["arm.optimizer=oracle"])
        with pytest.raises(SettingError, match=r"re-mixes by neighbours, as .*amortized.* got oracle"):
            study_of_faithfulness(config, "no", model=load_moe_model("model"))

    def test_scores_are_of_the_experts_that_are_re_mixed(self, place):
        config = load_config("config.yaml", ["+scores.own={name: gradient, experts: 4}"])
        with pytest.raises(SettingError, match="Expected 5 experts in every score"):
            study_of_faithfulness(config, "no", model=load_moe_model("model"))

    def test_more_experts_than_there_are(self, place):
        config = load_config("config.yaml", ["experts=9", "scores={gradient: gradient}"])
        with pytest.raises(SettingError, match=r"experts of at most 8, got n=2, points .1, 2. and experts=9"):
            study_of_faithfulness(config, "no", model=load_moe_model("model"))
