"""The study of when choosing a pathway per question pays: what was asked, and what its numbers are made of."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from answer import collect, compare, forced, gate, left, neighbours, pictures, shared, unasked
from c3po_bed import LEARNED
from matplotlib import pyplot as plt
from records.made import answered

from c3po_adaptive import load_moe_model, rule_named
from c3po_adaptive.analysis.judging_rules import rules
from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.tasks import demo_questions
from c3po_adaptive.types import Question

kept = cache(compare.kept)  # read once, and changed by none
ANSWER = Path(__file__).parents[1] / "studies" / "answer"
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "explanation" / "results.md"
POOL = ROOT.parent / "shared" / "pool"


def words(page):
    """A page, on one line."""
    return " ".join(page.read_text(encoding="utf-8").split())


def told(name="second"):
    """A round's summary."""
    return json.loads((compare.RESULTS / name / "summary.json").read_text(encoding="utf-8"))


def told_by(a, b, of="mixture"):
    """One comparison of the second round."""
    (found,) = (c for c in told()["comparisons"] if (c["dataset"], c["a"], c["b"]) == (of, a, b))
    return found


def points(one):
    """As pages quote a comparison."""
    return f"{one['difference']:+.1f} [{one['ci_low']:.1f}, {one['ci_high']:.1f}]".replace("-", "−")


def test_what_is_asked_follows_from_the_gate():
    above = json.loads(gate.ABOVE.read_text())
    config = yaml.safe_load((ANSWER / "config.yaml").read_text())
    assert config["datasets"] == gate.data(above)
    assert len(above) == 87


def test_the_gate_counts_points_above_chance():
    class Answer:
        def __init__(self, subject, correct, choices):
            self.subject, self.correct, self.scores = subject, correct, [0.0] * choices

    answers = [Answer("a", True, 4), Answer("a", False, 4), Answer("b", False, 2)]
    assert gate.above_chance(answers) == {"a": pytest.approx(25.0), "b": pytest.approx(-50.0)}


def test_what_experts_learned_is_asked_most():
    data = {d["name"]: d for d in gate.data(dict.fromkeys(("sciq", *LEARNED), 10.0) | {"aqua_algebra": 4.9})}
    assert data["learned"]["limit"] == 18 * len(LEARNED)
    assert data["others"]["questions"] == "bed:sciq"
    assert all("aqua_algebra" not in str(d) for d in data.values())


PARTS, FIRST = compare.PARTS["first"], compare.SECONDARY["first"]
ARMS = {arm for pair in (*compare.PRIMARY, *FIRST) for arm in pair}


def answers(gain, dataset="learned", kinds=("atis_intent", "sciq", "piqa")):
    """Of each arm to eight questions of each kind; ``each`` is right on so many more of them than the others."""
    return [
        answered(
            arm=arm,
            dataset=dataset,
            subject=kind,
            id=f"{kind}/{n}" + "/r1" * (dataset == "reworded"),
            correct=n < 2 + gain * (arm == "each"),
            layer_scores={layer: float(layer) for layer in collect.LAYERS} if arm in collect.SCORED else {},
        )
        for arm in sorted(ARMS)
        for kind in kinds
        for n in range(8)
    ]


class TestCompare:
    def test_a_kind_holds_its_questions_of_every_model_and_in_both_wordings(self):
        both = [*answers(4), *answers(2, "reworded", ("sciq", "boolq"))]
        of = compare.parts({"sound": both, "early": both}, PARTS)
        assert set(of) == {name + part for part in PARTS for name in ("mixture", "sound", "early")}
        found = compare.compared(of["mixture"], "each", "base")
        assert (found.n, found.kinds, found.unit) == (2 * 40, 4, "kind")
        assert found.difference == pytest.approx(100 * (0.5 + 0.375 + 0.5 + 0.25) / 4)

    def test_primary_comparisons_are_tested_alone_and_only_those_of_the_mixture(self):
        of = compare.parts({"sound": answers(3)}, {"": ("learned",)})
        found = compare.comparisons(of, FIRST)
        primary = [(c.dataset, c.a, c.b) for c in found if c.primary]
        assert primary == [("mixture", *pair) for pair in compare.PRIMARY]
        assert all(c.p_holm == c.p for c in found if c.primary)
        assert any(c.p_holm > c.p for c in found if not c.primary and 0 < c.p < 1)

    def test_rows_are_means_over_kinds(self):
        uneven = [*answers(4), *answers(0, "reworded", ("boolq",))]
        row = next(r for r in compare.rows({"mixture": uneven}) if r["arm"] == "each")
        assert row["accuracy"] == pytest.approx(100 * (3 * 0.75 + 0.25) / 4)
        assert row["nats"] == pytest.approx(0.6931, abs=1e-4)

    def test_harm_is_of_the_sound_model(self):
        sound = [r for part in ("learned", "reworded", "others") for r in answers(-1, part)]
        found = compare.harm({"sound": sound, "early": answers(5)})
        assert {(h["case"], h["difference"]) for h in found if h["arm"] == "each"} == {
            (case, -12.5) for case in ("learned", "reworded", "others")
        }


def test_layers_found_are_ranked_question_by_question():
    found = collect.found(collect.scored(answers(0)), {"late": range(20, 28), "early": range(16, 24)})
    assert set(found) == set(collect.SCORED)
    assert found["eight chosen"]["auc"] == {"late": 1.0, "early": 0.0}
    assert found["eight chosen"]["mean"] == [float(layer) for layer in collect.LAYERS]


def test_pictures_are_of_every_model_that_was_run():
    models = {"sound": answers(3), "early": answers(4)}
    models = {name: [*records, *answers(1, "others", ("mmlu_other", "hellaswag"))] for name, records in models.items()}
    of = compare.parts(models, PARTS)
    summary = {
        "rows": compare.rows(of),
        "comparisons": [c.model_dump() for c in compare.comparisons(of, FIRST)],
        "layers": {name: collect.found(collect.scored(records), collect.BROKEN) for name, records in models.items()},
    }
    with plt.rc_context(pictures.STYLE):
        kinds = pictures.forest(of)
        drawn = pictures.gains(of), pictures.layers(summary), pictures.costs(summary)
    assert len(kinds.axes[0].get_yticklabels()) == 5
    assert [axis.get_title() for axis in drawn[0].axes] == [pictures.NAMES[name] for name in models]
    for figure in (kinds, *drawn):
        plt.close(figure)


def lost():
    """By model: points that its fault costs it, left alone, on kinds that experts learned."""
    right = {row["part"]: row["accuracy"] for row in told()["rows"] if row["arm"] == "base"}
    return {model: round(right["sound"] - right[model]) for model in collect.BROKEN}


def test_what_is_lost_and_won_back_is_told_as_it_was_answered():
    early, late, some = lost().values()
    said = (
        rf"first eight [^.]*routers broken [^.]*\b{early} points are lost and .* won, "
        rf"with the last eight {late} and .*, "
        rf"with half the experts of every second layer exchanged {some} and "
    )
    assert re.search(said, words(ANSWER / "README.md"))
    assert sum(not c["primary"] for c in told()["comparisons"]) == 192


def test_the_table_of_results_is_of_each_model_and_says_what_stands():
    pairs = (("each", "base"), ("each", "one for all"), ("eight random", "base"), ("last five", "base"))
    found = {model: [told_by(*pair, model) for pair in pairs] for model in compare.MODELS}
    cost = {"sound": ""} | {model: f" {points}" for model, points in lost().items()}
    names = ("nothing", "first eight of twelve layers", "last eight", "half the experts of every second layer")
    page = RESULTS.read_text(encoding="utf-8")
    for name, model in zip(names, compare.MODELS, strict=True):
        assert f"| {name} |{cost[model]} | {' | '.join(points(one) for one in found[model])} |" in page
    stands = [one["p_holm"] < 0.05 for own in found.values() for one in own]
    assert stands == [one["difference"] > 10 for own in found.values() for one in own]
    assert "those above ten points stand after correction, no others" in page


def test_what_was_asked_afterwards_is_told_as_it_was_answered():
    """How much hangs on the model that is broken most, and how much on choosing layers."""
    found = compare.afterwards(kept("second"))
    for one, again in zip(told()["afterwards"], found, strict=True):
        assert one == again | {name: pytest.approx(again[name]) for name in ("difference", "ci_low", "ci_high")}
    without, random = found
    assert "early" not in without["models"] and set(random["models"]) == set(compare.MODELS)
    by_model = [points(told_by("each", "one for all", model)) for model in compare.MODELS]
    page, results = words(ANSWER / "README.md"), words(RESULTS)
    assert "By model it is {} (sound), {} (*early*), {} (*late*) and {} (*some*)".format(*by_model) in page
    assert f"without *early* {points(without)}." in page
    share = f"{100 * random['difference'] / told_by('eight chosen', 'last five')['difference']:.0f} %"
    assert f"Eight layers at random do, too: {points(random)}, {share} of it" in page
    assert f"Drawn at random they have {share} of that lead" in results
    (given, won) = (told_by(arm, "base", "early") for arm in ("each, random neighbours", "each"))
    assert f"300 random ones a question win {points(given)} of the second round's {won['difference']:.1f}" in page
    assert (
        f"a dozen of each kind, drawn at random, win {given['difference']:.1f} of the {won['difference']:.1f} points"
        in results
    )


@pytest.mark.parametrize("name", compare.WITHOUT_HASH)
def test_a_summary_has_the_hash_of_its_rules_and_says_that_it_came_later(name):
    assert re.fullmatch("[0-9a-f]{12}", told(name)["hashes"]["rules"])
    assert "after the run" in told(name)["hashes"]["recorded"]
    assert compare.hashes("third") == {"rules": rules()}, "of a round to come"
    assert f"`{told(name)['hashes']['rules']}`" in words(ROOT / "studies" / "protocol.md")


class TestNeighbours:
    def test_share_of_the_weight_that_is_on_the_own_kind(self):
        known = [
            Question(id=f"{kind}/{n}", question=text, choices=("a", "b"), answer=0, subject=kind)
            for kind, several in {"boats": ("A boat floats.", "Boats on water"), "snow": ("Snow is cold.",)}.items()
            for n, text in enumerate(several)
        ]
        asked = [Question(id="boats/9", question="Do boats float?", choices=("a", "b"), answer=0, subject="boats")]
        of = {k: neighbours.on_own_kind(asked, known, FaissKNN(k=k), Gaussian(length_scale=1000)) for k in (2, 3)}
        assert of == {2: {"boats/9": 100.0}, 3: {"boats/9": pytest.approx(66.67)}}

    def test_is_told_of_every_learned_question(self):
        found = json.loads(neighbours.FOUND.read_text(encoding="utf-8"))
        assert set(found) == {r.id for r in kept("second")["sound"] if r.dataset == "learned"}
        share = f"{np.mean([*found.values()]):.0f} %"
        assert f"{share} of the neighbours' weight is on the question's own kind" in words(ANSWER / "README.md")
        for page in (RESULTS, ROOT / "README.md"):
            assert f"{share} of its neighbours' weight is on the question's own kind" in words(page)


@pytest.mark.parametrize("name", compare.SECONDARY)
def test_the_kept_summary_is_what_the_kept_answers_say(name):
    records, summary = kept(name), told(name)
    assert list(records) == list(compare.MODELS)
    of = compare.parts(records, compare.PARTS[name])
    assert summary["rows"] == compare.rows(of)
    for one, found in zip(summary["comparisons"], compare.comparisons(of, compare.SECONDARY[name]), strict=True):
        assert one == pytest.approx(json.loads(found.model_dump_json()))
    for one, found in zip(summary["harm"], compare.harm(records), strict=True):
        assert one["difference"] == pytest.approx(found["difference"])


def test_wrong_routing_is_seen_as_told():
    """The selector's scores are high where layers were broken."""
    told = {}
    for name, asked in (("first", 722), ("second", 1278)):
        folder = compare.RESULTS / name
        told[name], of = json.loads((folder / collect.MEANS).read_text()), collect.kept_scores(folder)
        assert of["late"]["eight chosen"].shape == (asked, 12)
        assert told[name] == {model: collect.found(scores, collect.BROKEN) for model, scores in of.items()}
    second = {model: told["second"][model]["eight chosen"] for model in collect.BROKEN}
    assert all(second[model]["auc_of_means"][model] > 0.9 for model in second)
    assert [model for model in second if second[model]["auc"][model] > 0.9] == ["early"]
    found = told["first"]
    wrong, leverage = ({m: found[m][arm]["auc"] for m in compare.MODELS} for arm in collect.SCORED)
    rise = {m: wrong[m][m] - wrong["sound"][m] for m in collect.BROKEN}
    assert all(rise[m] > leverage[m][m] - leverage["sound"][m] + 0.05 for m in rise)
    assert [m for m in rise if wrong[m][m] > 0.9] == ["early"]


def test_the_second_round_asks_what_neither_wording_was_asked_of():
    found = [
        Question(id=f"{kind}/{n:04}" + "/r1" * (n % 2), question="?", choices=("a", "b"), subject=kind)
        for kind in ("atis_intent", "sciq")
        for n in range(10)
    ]
    left = unasked.unasked(found, {unasked.of_either_wording(id_) for id_ in ("sciq/0003", "sciq/0004/r2")}, 8)
    assert {kind: len(own) for kind, own in compare.grouped(left, "subject").items()} == {"atis_intent": 8, "sciq": 8}
    assert {"sciq/0003/r1", "sciq/0004"}.isdisjoint(question.id for question in left)


def test_no_question_of_the_second_round_was_asked_in_the_first_in_any_wording():
    rounds = [kept(name)["sound"] for name in ("first", "second")]
    first, second = ({(r.dataset, unasked.of_either_wording(r.id)) for r in records} for records in rounds)
    assert {id_ for _, id_ in second}.isdisjoint(id_ for _, id_ in first)
    assert {case: sum(own == case for own, _ in second) for case in unasked.EACH} == {"learned": 918, "reworded": 360}


class TestShared:
    """What moves without the questions that share a text with a reference."""

    TOLD = json.loads(shared.FILE.read_text())

    @pytest.mark.skipif(not POOL.is_dir(), reason="the bed's files are not beside the project")
    def test_they_are_those_of_the_beds_files(self, monkeypatch):
        monkeypatch.setenv("C3PO_BED", str(POOL))
        texts = shared.texts_of_references()
        for run in compare.PARTS:
            assert self.TOLD[run]["shared"] == shared.sharing(shared.asked(run), texts)

    def test_primary_comparisons_are_made_without_them(self):
        second = self.TOLD["second"]
        of = shared.without(compare.parts(kept("second"), {"": ("learned",)}), second["shared"])
        rows = compare.rows({"mixture": of["mixture"]})
        assert {row["n"] for row in rows} == {4 * (918 - len(second["shared"]))}
        right = {row["arm"]: row["accuracy"] for row in rows}
        assert [(one["a"], one["b"]) for one in second["primary"]] == [*compare.PRIMARY]
        for one in second["primary"]:
            assert one["difference"] == pytest.approx(right[one["a"]] - right[one["b"]], abs=2e-3)

    def test_the_page_says_what_moves(self):
        most = {run: abs(told["largest"]["difference"] - told["largest"]["before"]) for run, told in self.TOLD.items()}
        sentence = (
            f"**{len(self.TOLD['second']['shared'])} of the 918 questions share a text with a reference**, none one "
            f"that an expert learned. Without them no comparison of this round moves by more than "
            f"{most['second']:.1f} points, of what was asked after it by more than "
            f"{max(most[run] for run in left.PAIRS):.1f}, of the first round ({len(self.TOLD['first']['shared'])} of "
            f"{self.TOLD['first']['questions']} questions) by more than {most['first']:.1f}, and no claim changes"
        )
        assert sentence in " ".join((ANSWER / "README.md").read_text().split())
        assert not any(told["claims"] for told in self.TOLD.values())


class TestForced:
    def test_shares_and_what_is_missed(self):
        rows = [
            {"right": right, "experts": [own, other], "told": 0, "doubt": doubt, "margin": 1 - doubt}
            for right, own, other, doubt in (
                *((True, True, False, 0.1), (False, True, True, 0.9)),
                *((False, False, True, 0.5), (True, False, False, 0.2)),
            )
        ]
        assert forced.told(rows) == {
            "n": 4,
            "as it routes": 50.0,
            "a random expert": 50.0,
            "best of all in hindsight": 75.0,
            "its family's expert": 50.0,
            "wrong where that is right": 25.0,
            "right where that is wrong": 25.0,
            "missed, by doubt": 1.0,
            "missed, by margin": 1.0,
        }
        unknown = [row | {"told": None} for row in rows]
        assert set(forced.told(unknown)) == {"n", "as it routes", "a random expert", "best of all in hindsight"}

    def test_every_expert_is_asked_alone(self, dense_weights):
        model = load_moe_model("smollm2-moe")
        asked = demo_questions("validation", limit=2)
        rows = forced.looked_at(model, asked)
        assert [len(row["experts"]) for row in rows] == [16, 16]
        for expert in (0, 7):
            scores = model.score_choices(asked, routing=rule_named(f"force:{expert};top-k:1"))
            right = [int(one.argmax()) == question.answer for one, question in zip(scores, asked, strict=True)]
            assert right == [row["experts"][expert] for row in rows]


@pytest.mark.parametrize("name", left.PAIRS)
def test_what_was_left_is_told_as_it_was_answered(name):
    parts = left.parts_of(name)
    assert told(name)["rows"] == compare.rows(parts)
    found = left.comparisons(name)
    asked = {model for model, own in compare.kept(name).items() if len({r.arm for r in own}) > 1}
    assert {(c.dataset, c.a, c.b) for c in found} >= {(model, *left.PAIRS[name][0]) for model in asked}
    for one, again in zip(told(name)["comparisons"], found, strict=True):
        assert one == pytest.approx(json.loads(again.model_dump_json()))


def test_arms_that_a_run_has_not_are_those_of_the_second_round_on_its_questions():
    records = left.beside_second("beside")["early"]
    by_arm = compare.grouped(records, "arm")
    assert {"lora", "one for all"} <= set(by_arm)
    assert {frozenset(r.id for r in own) for own in by_arm.values()} == {frozenset(r.id for r in by_arm["lora"])}


@pytest.mark.parametrize("name", left.HALVES)
def test_both_halves_answer_the_same_questions(name):
    by_arm = compare.grouped(left.both_halves(name)["early"], "arm")
    for own in by_arm.values():
        again = {r.id.removeprefix("again/") for r in own if r.id.startswith("again/")}
        assert again == {r.id for r in own if not r.id.startswith("again/")}
        assert len(own) == 2 * len(again)


def test_what_forcing_an_expert_gains_is_told_as_it_was_measured():
    learned = json.loads(forced.FOUND.read_text())["learned"]
    forced_right, own = (f"{learned[name]:.1f} %" for name in ("its family's expert", "as it routes"))
    sentence = f"right on {forced_right} of {learned['n']} validation questions, as it routes on {own}"
    assert sentence in " ".join((ANSWER / "README.md").read_text().split())


def test_methods_as_published_change_as_many_answers_as_told():
    by_arm = compare.grouped(left.learned(compare.kept("paper"))["early"], "arm")
    chosen = {arm: [r.choice for r in own] for arm, own in by_arm.items()}
    published = ("ngd", "kernel-regression", "mode-finding", "ngd, oracle")
    changed = {arm: sum(a != b for a, b in zip(chosen[arm], chosen["base"], strict=True)) for arm in published}
    assert changed == {"ngd": 0, "kernel-regression": 0, "mode-finding": 1, "ngd, oracle": 0}
    assert len(chosen["base"]) == 150
    assert len({*collect.LAYERS[-5:]} - {*collect.BROKEN["early"]}) == 4, "of the paper's five layers are sound"
    for page in (ANSWER / "README.md", RESULTS, ROOT / "README.md"):
        assert re.search(
            r"at most one answer of 150, .{0,20}where four of (its|their) five layers are sound", words(page)
        )
