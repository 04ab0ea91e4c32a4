"""Explanations say what really happened: probabilities, changes, and what undoing a layer does."""

import inspect
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from pictures.test_figures import squares, words
from routing.naive import shared_model
from routing.toys import questions
from study.configs import written
from test_api import CHOICES, TEXTS, as_jsonl, cache, optimizer  # noqa: F401 (a fixture)
from typer.testing import CliRunner

from c3po_adaptive import Optimizer, default_registry
from c3po_adaptive.cli import app
from c3po_adaptive.cli.explain import explain
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.remixing.presets import preset_named
from c3po_adaptive.settings import RemixSettings
from c3po_adaptive.study.arms import DEMO_ARMS
from c3po_adaptive.testing import write_tiny_checkpoint
from c3po_adaptive.types import Question

GRADIENT = {"name": "gradient", "n": 2, "experts": 6}


@pytest.fixture(params=["letter", "cloze"])
def c3po(request, tmp_path):
    return optimizer(as_jsonl(tmp_path / "references.jsonl"), format=request.param, selector=GRADIENT)


class TestWithChoices:
    def test_probabilities_are_those_of_score_choices(self, c3po):
        model, format = shared_model("olmoe"), c3po.remixer.format
        for text, choices in zip(TEXTS, CHOICES, strict=True):
            found, question = c3po.explain(text, choices), Question("q", text, tuple(choices))
            assert found.options == tuple(choices)

            def along(pathway, question=question):
                scores = model.score_choices(question, routing=pathway, format=format)
                return scores.softmax(-1).tolist()

            assert along(None) == pytest.approx(found.before, abs=1e-5)
            assert along(found.pathway) == pytest.approx(found.after, abs=1e-5)
            assert set(found.undone) == set(found.layers)
            for layer, got in found.undone.items():
                router, row = found.pathway.router.clone(), found.pathway.layers.index(layer)
                router[row] = found.pathway.own[row]
                assert along(replace(found.pathway, router=router)) == pytest.approx(got, abs=1e-5)
            assert found.before != found.after

    def test_of_a_record_it_is_the_answer_to_it(self, c3po):
        asked = Question("q", f"It was so. {TEXTS[0]}", tuple(CHOICES[0]), 1, about=TEXTS[0])
        found, answer = c3po.explain(asked), c3po.answer(asked)
        assert torch.equal(found.pathway.weights, answer.pathway.weights) and found.answer == 1
        near = [(q.id, pytest.approx(similarity)) for q, similarity, _ in found.neighbours]
        assert near == [(id_, similarity) for id_, similarity, _ in answer.neighbours]
        with pytest.raises(SettingError, match="got both"):
            c3po.explain(asked, CHOICES[0])

    def test_is_the_answer_of_the_same_settings(self, c3po):
        found, answer = c3po.explain(TEXTS[0], CHOICES[0]), c3po.answer(TEXTS[0], CHOICES[0])
        assert torch.equal(found.pathway.weights, answer.pathway.weights)
        assert found.layers == answer.layers
        assert tuple(found.layer_scores.values()) == pytest.approx(answer.layer_scores)
        assert {q.id for q, *_ in found.neighbours} == {row[0] for row in answer.neighbours}
        spent = {phase: flops / answer.base_flops for phase, flops in vars(answer.cost).items() if flops}
        assert found.cost == pytest.approx(spent)
        assert found.cost["answer"] > 0


class TestWithoutChoices:
    def test_next_tokens(self):
        model, found = shared_model("olmoe"), optimizer(selector=GRADIENT).explain(TEXTS[0])
        assert len(found.options) == 5
        before, after = (model.forward(TEXTS[0], routing=p).logits[0, -1].softmax(-1) for p in (None, found.pathway))
        assert max(found.before + found.after) == pytest.approx(max(before.max().item(), after.max().item()), abs=1e-5)
        assert all(min((before - p).abs()) < 1e-5 for p in found.before)
        assert all(min((after - p).abs()) < 1e-5 for p in found.after)


class TestWords:
    def test_terminal(self, c3po):
        found = c3po.explain(TEXTS[1], CHOICES[1])
        text = str(found)
        assert text.startswith(TEXTS[1])
        assert f"layers: {', '.join(map(str, found.layers))}" in text
        assert text.count("without it:") == len(found.layers) == 2
        assert "layers by gradient (n 2, experts 6), on" in text
        assert all(f"layer {layer}" in text for layer in found.layer_scores)
        assert "cost in base forwards: prefill 1.00" in text
        for layer in found.layers:
            expert, own, new = found.moved(layer, 1)[0]
            assert f"expert {expert} {own:.3f} → {new:.3f}" in text

    def test_terminal_gives_texts_of_several_lines_one_each(self, c3po):
        found = c3po.explain(TEXTS[1], ["yes", "no,\nnever"])
        (question, *near), *rest = found.neighbours
        long = replace(
            question,
            question="A customer writes:\n\n  " + "money " * 40 + "\nWhat is it?",
            choices=("a\nb", "c"),
            answer=0,
        )
        lines = str(replace(found, neighbours=((long, *near), *rest))).split("\n")
        at = lines.index(f"neighbours: {len(found.neighbours)}")
        told = lines[at + 1 : at + 1 + len(found.neighbours)]
        assert all(line.startswith("  0.") for line in told)
        assert told[0].endswith(")  A customer writes: " + "money " * 3 + "… " + "money " * 4 + "What is it? → a b")
        assert lines[-2].endswith(" %  no, never"), "before what it cost"

    def test_what_does_not_change_at_the_decimals_shown_is_left_out(self, c3po):
        found = c3po.explain(TEXTS[1], CHOICES[1])
        layer = found.layers[0]
        row = found.pathway.layers.index(layer)
        own = found.pathway.used.own.clone()
        own[row] = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1, 0.0, 0.0, 0.0])
        weights = own.clone()
        weights[row] += torch.tensor([-0.0502, 0.05, 0.0001, 0.0001, 0.0, 0.0, 0.0, 0.0])
        one = replace(found, pathway=replace(found.pathway.used, own=own, router=weights))
        assert len(one.moved(layer, 8)) == 4
        assert "most changed: expert 0 0.500 → 0.450, expert 1 0.200 → 0.250\n" in str(one)
        assert "</span></td>" in one.html() and "2: 0.100 → 0.100" not in one.html()
        still = replace(found, pathway=replace(found.pathway.used, own=own, router=own), undone={layer: found.after})
        none = str(replace(still, layers=(layer,)))
        assert "experts selected; no weight changes at three decimals\n" in none
        assert re.search(r"without it: .* %, as with it\n", none)
        assert "none at three decimals" in replace(still, layers=(layer,)).html()

    def test_page(self, c3po, tmp_path):
        found = c3po.explain("Is <b>wool</b> cold?", CHOICES[1])
        page = found.save(tmp_path / "page.html").read_text()
        assert "Is &lt;b&gt;wool&lt;/b&gt; cold?" in page
        assert page.count("<svg") == 2
        assert 'aria-label="Routing weights by layer and expert: before re-mixing, after it, and their change"' in page
        for said in (
            ">before: the model&#x27;s own<",
            ">after re-mixing<",
            ">decoder layer<",
            ">expert<",
            ">routing weight<",
        ):
            assert said.replace("&#x27;", "'") in page
        assert f"{100 * found.after[0]:.1f} %" in page
        assert all(q.question in page for q, *_ in found.neighbours)

    def test_picture(self, c3po):
        found = c3po.explain(TEXTS[1], CHOICES[1])
        figure = found.plot()
        before, after, change = (squares(axes) for axes in figure.axes[:3])
        own, new = found.pathway.used.own, found.pathway.weights
        most = max(own.max(), new.max()).item()
        for drawn, weights in (
            (before, own / most),
            (after, new / most),
            (change, (new - own) / (new - own).abs().max()),
        ):
            shown = torch.zeros_like(own)
            for (row, expert), color in drawn.items():
                shown[row, expert] = color[3]
            torch.testing.assert_close(shown, weights.abs(), atol=1e-5, rtol=0)
        colors = {tuple(color[:3]) for color in change.values()}
        assert len(colors) == 2, "rose and fell"
        said = words(figure)
        assert all(f"* {layer}" in said for layer in found.layers)
        assert {"routing weight", "change of the weight", "before: the model's own", TEXTS[1]} <= {*said}

    def test_left_alone(self, tmp_path):
        found = optimizer(selector={"name": "fixed", "n": 0, "experts": 6}).explain(TEXTS[0], CHOICES[0])
        assert found.before == found.after
        assert found.undone == {}
        assert "none, left alone: no layer was chosen" in str(found)
        assert "left alone: no layer was chosen" in found.html()
        assert set(found.cost) <= {"prefill", "embedding"}

    def test_upper_bounds_need_the_answer(self):
        oracle = {"name": "oracle", "of": {"name": "ngd", "steps": 3, "lr": 0.1}}
        c3po = optimizer(
            optimizer=oracle, selector=GRADIENT, settings={"loss": "choices", "mix": "core", "pathway": "weights"}
        )
        found = [c3po.explain(TEXTS[0], CHOICES[0], answer) for answer in range(2)]
        for answer in range(2):
            assert found[answer].after[answer] > found[answer].before[answer]
            before, after = found[answer].lead
            logs = [math.log(p) for p in found[answer].after]
            assert after == pytest.approx(logs[answer] - sum(logs) / len(logs))
            assert after > before
            assert f"right one, {CHOICES[0][answer]}: {before:.3g} → {after:.3g} nats" in str(found[answer])
            assert f"<strong>{CHOICES[0][answer]}</strong>" in found[answer].html()
        assert optimizer().explain(TEXTS[0], CHOICES[0]).lead is None
        with pytest.raises(DataError, match="expected the answer of every question"):
            c3po.explain(TEXTS[0], CHOICES[0])

    def test_choices_are_two_at_least(self, c3po):
        for choices in (["one"], "one"):
            with pytest.raises(SettingError, match="two choices at least, as a list"):
                c3po.explain(TEXTS[0], choices)
        with pytest.raises(SettingError, match=r"two choices at least of each question, got \('one',\)"):
            c3po.answer(TEXTS[0], ["one"])
        with pytest.raises(SettingError, match=r"an answer from 0 to \d, a place in choices, got 9"):
            c3po.explain(TEXTS[0], CHOICES[0], 9)


def test_the_command_explains_what_python_does_by_default():
    arm = DEMO_ARMS[inspect.signature(explain).parameters["arm"].default]
    usual = preset_named(inspect.signature(Optimizer).parameters["preset"].default)
    registry = default_registry()
    specs = {role: spec for role, spec in arm.specs.items() if role != "answerer"}
    assert registry.strategies(specs) == registry.strategies(usual.specs)
    assert arm.remixing == RemixSettings.of(usual.settings)


def test_command(tmp_path, monkeypatch):
    write_tiny_checkpoint(tmp_path / "model", "olmoe")
    written(tmp_path / "references.jsonl", questions(60))
    monkeypatch.chdir(tmp_path)
    common = ["explain", "Is 7 more than 3?", "--model", "model", "--refset", "references.jsonl"]
    small = ["--set", "selector={name: gradient, n: 1, experts: 4}", "--set", "optimizer.steps=2"]
    choices = ["--choice", "no", "--choice", "yes"]
    result = CliRunner().invoke(app, [*common, *small, *choices, "--html", "page.html"])
    assert result.exit_code == 0, result.output
    assert "%  yes" in result.output
    assert "How one question was re-mixed" in (tmp_path / "page.html").read_text()
    result = CliRunner().invoke(app, [*common, *small])
    assert "next tokens, before → after:" in result.output
    files = ["--picture", "pathway.svg", "--html", "page.html"]
    result = CliRunner().invoke(app, [*common, *small, *choices, *files, "--json"])
    found = json.loads(result.stdout)  # alone on standard output
    assert "Page: " in result.stderr
    assert [option["option"] for option in found["options"]] == ["no", "yes"]
    assert sum(option["after"] for option in found["options"]) == pytest.approx(1)
    assert [len(layer["without"]) for layer in found["layers"]] == [2]
    assert [len(near["question"]["choices"]) > 1 for near in found["neighbours"]] == [True] * 3
    assert ">after re-mixing<" in (tmp_path / "pathway.svg").read_text()
    assert "layers by fixed" in CliRunner().invoke(app, [*common, "--set", "selector={n: 1, experts: 4}"]).output
    # What learns and what draws, with the seed of a run.
    learns = ["--set", "optimizer=constant-integrated-step", "--set", "selector={name: random, n: 1, experts: 4}"]
    learns += choices
    results = [CliRunner().invoke(app, [*common, *learns, *seed]).stdout for seed in ([], ["--set", "seed=0"])]
    assert "layers by random" in results[0]
    assert results[0] == results[1]
    for wrong, message in (
        ([*choices, "--answer", "perhaps"], "one of the choices"),
        (["--html", "nowhere/page.html"], "make nowhere first"),
        (["--picture", "page.gif"], "end in .png or .svg"),
    ):
        result = CliRunner().invoke(app, [*common, *small, *wrong])
        assert result.exit_code == 1
        assert message in result.output
