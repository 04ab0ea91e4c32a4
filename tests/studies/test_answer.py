"""The study of when choosing a pathway per question pays: what was asked, and what its numbers are made of."""

import json
import re
from collections import Counter
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from answer import forced, gate, layers, neighbours, shared, unasked
from c3po_bed import LEARNED
from records.made import answered

from c3po_adaptive import load_moe_model, rule_named
from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.tasks import demo_questions
from c3po_adaptive.types import Question

ROOT = Path(__file__).parents[2]
ANSWER = ROOT / "studies" / "answer"
RESULTS = ROOT / "docs" / "explanation" / "results.md"
POOL = ROOT.parent / "shared" / "pool"
MODELS = ("sound", "early", "late", "some")


@cache
def kept(name, model):
    """Answers of a round, read once, and changed by none."""
    return read_parquet(ANSWER / "results" / name / f"{model}.parquet")


@cache
def told(name="second"):
    """A round's summary."""
    return json.loads((ANSWER / "results" / name / "summary.json").read_text(encoding="utf-8"))


def words(page):
    """A page, on one line."""
    return " ".join(page.read_text(encoding="utf-8").split())


def told_by(a, b, on="learned", name="second"):
    """One comparison of a round."""
    (found,) = (c for c in told(name)["comparisons"] if (c["on"], c["a"], c["b"]) == (on, a, b))
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


def test_layers_found_are_ranked_question_by_question():
    scores = {layer: float(layer) for layer in layers.LAYERS}
    records = [answered(id=str(n), arm=arm, layer_scores=scores) for arm in layers.SCORED for n in range(3)]
    found = layers.found(layers.scored([*records, answered(id="0", arm="base")]))
    assert set(found) == set(layers.SCORED)
    assert (found["eight chosen"]["auc"]["late"], found["eight chosen"]["auc"]["early"]) == (1.0, 0.0)
    assert found["eight chosen"]["mean"] == [float(layer) for layer in layers.LAYERS]


def lost():
    """By model: points that its fault costs it, left alone, on kinds that experts learned."""
    right = {row["on"]: row["accuracy"] for row in told()["rows"] if row["arm"] == "base"}
    return {model: round(right["learned: sound"] - right[f"learned: {model}"]) for model in layers.BROKEN}


def test_what_is_lost_and_won_back_is_told_as_it_was_answered():
    (early, *others), page = lost().values(), words(ANSWER / "README.md")
    first, *rest = (told_by("each", "base", f"learned: {model}") for model in layers.BROKEN)
    assert f"(*early*) {early} points are lost and {points(first)} won." in page and first["verdict"] == "better"
    assert f"second layer exchanged, {others[0]} are lost;" in page and len({*others}) == 1
    tested = [c for c in told()["comparisons"] if c["family"]]
    said = "the {} and {} won do not stand after correction for {} secondary comparisons"
    assert said.format(*map(points, rest), len(tested)) in page
    assert [c["verdict"] for c in rest] == ["not shown"] * 2


def test_the_table_of_results_is_of_each_model_and_says_what_stands():
    pairs = (("each", "base"), ("each", "one for all"), ("eight random", "base"), ("last five", "base"))
    found = {model: [told_by(*pair, f"learned: {model}") for pair in pairs] for model in MODELS}
    cost = {"sound": ""} | {model: f" {points}" for model, points in lost().items()}
    names = ("nothing", "first eight of twelve layers", "last eight", "half the experts of every second layer")
    page = RESULTS.read_text(encoding="utf-8")
    for name, model in zip(names, MODELS, strict=True):
        assert f"| {name} |{cost[model]} | {' | '.join(points(one) for one in found[model])} |" in page
    stands = [one["verdict"] == "better" for own in found.values() for one in own]
    assert stands == [one["difference"] > 10 for own in found.values() for one in own]
    assert "those above ten points stand after correction, no others" in page


def test_what_was_asked_afterwards_is_told_as_it_was_answered():
    """How much hangs on the model that is broken most, and how much on choosing layers."""
    without, random = told_by("each", "one for all", "without early"), told_by("eight random", "last five")
    assert [one["verdict"] for one in (without, random)] == ["not tested"] * 2
    by_model = {model: told_by("each", "one for all", f"learned: {model}") for model in MODELS}
    page, results = words(ANSWER / "README.md"), words(RESULTS)
    assert max(by_model.values(), key=lambda one: one["difference"]) == by_model["early"]
    assert f"most on *early*, {points(by_model['early'])}, and without *early* {points(without)}." in page
    share = f"{100 * random['difference'] / told_by('eight chosen', 'last five')['difference']:.0f} %"
    assert f"Eight random layers beat the last five, too, by {points(random)}, {share} of the chosen ones' lead" in page
    assert f"Drawn at random they have {share} of that lead" in results
    rest = [points(told_by(arm, "last five", "without early")) for arm in ("eight chosen", "eight random")]
    assert "layers are sound, chosen are {} above them and random ones {}, looked at".format(*rest) in page
    (given, won) = (told_by(arm, "base", "learned: early") for arm in ("each, random neighbours", "each"))
    assert f"300 random ones a question win {points(given)} of the second round's {won['difference']:.1f}" in page


def test_another_draw_and_another_seed_are_told_as_they_were_answered():
    page, left = words(ANSWER / "README.md"), partial(told_by, name="left")
    again, seed = (points(left("each", "base", f"early, {which}")) for which in ("draw 1", "seed 1"))
    assert f"another hundred references of each kind win {again}" in page
    right = {row["on"]: row["accuracy"] for row in told("left")["rows"] if row["arm"] == "base"}
    assert f"loses {right['sound, seed 1'] - right['early, seed 1']:.0f} points and wins {seed}" in page
    pairs = (("each", "one for all"), ("eight chosen", "last five"))
    both = [points(left(*pair, "early, both seeds")) for pair in pairs]
    assert "is {} above one for all, and eight chosen layers {} above the last five".format(*both) in page


def test_what_is_not_shown_to_be_worse_is_told():
    page = words(ANSWER / "README.md")
    rivals = [told_by(arm, "each", "beside", name="left") for arm in ("in context", "calibrated")]
    shuffled = told_by("each", "each, shuffled labels", "known", name="first")
    assert {one["verdict"] for one in (*rivals, shuffled)} == {"not shown"}
    said = "Solved examples in the prompt, {}, and calibrated scores, {}, are not shown to be worse"
    assert said.format(*map(points, rivals)) in page
    half = (shuffled["ci_high"] - shuffled["ci_low"]) / 2
    assert f"are {shuffled['difference']:.1f} ± {half:.1f} points below a step for each question, which" in page


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
        assert set(found) == {r.id for r in kept("second", "sound") if r.dataset == "learned"}
        share = f"{np.mean([*found.values()]):.0f} %"
        assert f"{share} of the neighbours' weight is on the question's own kind" in words(ANSWER / "README.md")
        assert f"{share} of its neighbours' weight is on the question's own kind" in words(RESULTS)


def test_wrong_routing_is_seen_as_told():
    """The selector's scores are high where layers were broken."""
    told = {}
    for name, asked in (("first", 722), ("second", 1278)):
        folder = layers.RESULTS / name
        told[name], of = json.loads((folder / layers.MEANS).read_text()), layers.kept_scores(folder)
        assert of["late"]["eight chosen"].shape == (asked, 12)
        assert told[name] == {model: layers.found(scores) for model, scores in of.items()}
    second = {model: told["second"][model]["eight chosen"] for model in layers.BROKEN}
    assert all(second[model]["auc_of_means"][model] > 0.9 for model in second)
    areas = [f"{second[model]['auc'][model]:.2f}" for model in second]
    alone = [f"{told['second']['sound']['eight chosen']['auc'][model]:.2f}" for model in second]
    page = words(ANSWER / "README.md")
    assert "an area under the curve of {}, {} and {}; the same layers".format(*areas) in page
    assert "when nothing is broken, with {}, {} and {}.".format(*alone) in page
    beside = words(ANSWER.with_name("faithfulness") / "README.md")
    assert "[{}, {} and {}](../answer/README.md) question by question".format(*areas) in beside


def test_the_second_round_asks_what_neither_wording_was_asked_of():
    found = [
        Question(id=f"{kind}/{n:04}" + "/r1" * (n % 2), question="?", choices=("a", "b"), subject=kind)
        for kind in ("atis_intent", "sciq")
        for n in range(10)
    ]
    left = unasked.unasked(found, {unasked.of_either_wording(id_) for id_ in ("sciq/0003", "sciq/0004/r2")}, 8)
    assert Counter(question.subject for question in left) == {"atis_intent": 8, "sciq": 8}
    assert {"sciq/0003/r1", "sciq/0004"}.isdisjoint(question.id for question in left)


def test_no_question_of_the_second_round_was_asked_in_the_first_in_any_wording():
    rounds = [kept(name, "sound") for name in ("first", "second")]
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
        for name in ("first", "second"):
            assert self.TOLD[name]["shared"] == shared.sharing(shared.asked(shared.answered(name)), texts)
        assert self.TOLD["left"]["shared"] == self.TOLD["second"]["shared"], "the same questions"

    def test_primary_comparisons_are_made_without_them(self):
        second = self.TOLD["second"]
        left = [r for model in MODELS for r in kept("second", model) if r.dataset == "learned"]
        left = [r for r in left if unasked.of_either_wording(r.id) not in second["shared"]]
        assert len(left) == 4 * 8 * (918 - len(second["shared"]))

        def right(arm):
            own = [r for r in left if r.arm == arm]
            kinds = {r.subject for r in own}
            return 100 * np.mean([np.mean([r.correct for r in own if r.subject == kind]) for kind in kinds])

        assert [one["a"] for one in second["primary"]] == ["each", "each", "eight chosen"]
        for one in second["primary"]:
            assert one["difference"] == pytest.approx(right(one["a"]) - right(one["b"]))

    def test_the_page_says_what_moves(self):
        most = {run: abs(told["largest"]["difference"] - told["largest"]["before"]) for run, told in self.TOLD.items()}
        first, second = self.TOLD["first"], self.TOLD["second"]
        sentence = (
            f"**{len(second['shared'])} of the 918 questions share a text with a reference**, none one that an expert "
            f"learned. Without them no comparison of this round moves by more than {most['second']:.1f} points, of "
            f"what was asked after it by more than {most['left']:.1f}, of the first round ({len(first['shared'])} of "
            f"{first['questions']} questions) by more than {most['first']:.1f}, and no claim changes"
        )
        assert sentence in words(ANSWER / "README.md")
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
        asked = demo_questions("validation", limit=1)
        rows = forced.looked_at(model, asked)
        ((only, row),) = zip(asked, rows, strict=True)
        assert len(row["experts"]) == 16
        for expert in (0, 7):
            (scores,) = model.score_choices(asked, routing=rule_named(f"force:{expert};top-k:1"))
            assert row["experts"][expert] == (int(scores.argmax()) == only.answer)


def test_what_forcing_an_expert_gains_is_told_as_it_was_measured():
    learned = json.loads(forced.FOUND.read_text())["learned"]
    forced_right, own = (f"{learned[name]:.1f} %" for name in ("its family's expert", "as it routes"))
    sentence = f"right on {forced_right} of {learned['n']} validation questions, as it routes on {own}"
    assert sentence in words(ANSWER / "README.md")


def test_methods_as_published_change_as_many_answers_as_told():
    chosen = {}
    for record in kept("paper", "early"):
        chosen.setdefault(record.arm, []).append(record.choice)
    published = ("ngd", "kernel-regression", "mode-finding", "ngd, oracle")
    changed = {arm: sum(a != b for a, b in zip(chosen[arm], chosen["base"], strict=True)) for arm in published}
    assert changed == {"ngd": 0, "kernel-regression": 0, "mode-finding": 1, "ngd, oracle": 0}
    assert len(chosen["base"]) == 150
    assert len({*layers.LAYERS[-5:]} - {*layers.BROKEN["early"]}) == 4, "of the paper's five layers are sound"
    for page in (ANSWER / "README.md", RESULTS):
        assert re.search(
            r"at most one answer of 150, .{0,20}where four of (its|their) five layers are sound", words(page)
        )
