"""An audit as a whole: what it says, what it takes, and that it resumes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3po_audit import audit, leverage_line, summary_of
from c3po_audit.plan import ALL, BUDGET, FIVE, USUAL_RATES
from c3po_audit.summary import leverage_in_words
from c3po_audit.use import evenness, loads, shared_with_kinds
from hostile.doors import command, is_refused, untouched
from models.families.checks import model_of
from routing.toys import questions
from typer.testing import CliRunner

from c3po_adaptive import DataError, SettingError
from c3po_adaptive.cli import app
from c3po_adaptive.study import Audit
from c3po_adaptive.testing import write_tiny_checkpoint

ASKED = [
    replace(q, question=" ".join([q.question] * 6), choices=tuple(c[:2] for c in q.choices), task=f"kind{i % 3}")
    for i, q in enumerate(questions(24))
]
TIMES = ("seconds",)


@pytest.fixture(scope="module")
def model():
    return model_of("olmoe", num_hidden_layers=7)


@pytest.fixture(scope="module")
def found(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "run"
    return audit(model, ASKED, folder), folder


def timeless(summary):
    return {k: v for k, v in summary.model_dump(mode="json").items() if k not in TIMES}


class TestSummary:
    def test_says_leverage_headroom_and_chance_in_one_sentence(self, found):
        sentence = found[0].sentence
        assert sentence.startswith("Permuting the routers costs ")
        assert "the most that re-mixing by this rate (" in sentence
        assert "above chance (" in sentence
        assert sentence in leverage_line(found[0])

    @pytest.mark.parametrize(
        ("low", "change", "high", "cost"),
        [(-26.8, -16.1, -5.4, "16.1 points [5.4, 26.8]"), (-9.8, -0.9, 8.0, "0.9 points [-8.0, 9.8]")],
        ids=["sound", "misrouted"],
    )
    def test_what_permuted_routers_cost_says_nothing_of_what_could_be_won(self, found, low, change, high, cost):
        """Of the misrouted model, where re-mixing wins most, it is nothing."""
        permuted = found[0].effect("permuted", "all tokens")
        accuracy = permuted.accuracy.model_copy(update={"low": low, "value": change, "high": high})
        said = leverage_in_words(permuted.model_copy(update={"accuracy": accuracy}))
        assert said.startswith(f"Permuting the routers costs {cost} and ")
        assert said.endswith("]: how much this routing is used, not whether it is right")

    def test_costs_a_dozen_base_forwards_a_question_at_most(self, found):
        assert 5 < found[0].total_cost <= BUDGET
        assert found[0].reached, "of which some are left for the oracle"

    @pytest.mark.parametrize("family", ["deepseek_v3", "llama4_text", "jetmoe"])
    def test_other_families(self, family):
        summary = audit(model_of(family), ASKED[:8])
        assert summary.total_cost <= BUDGET
        assert summary.effect("permuted", "all tokens")
        assert FIVE in summary.left_out, "three layers have no last five among them"

    def test_every_layer_is_permuted_alone(self, found, model):
        assert [e.layer for e in found[0].effects if e.layer is not None] == list(model.layers)

    def test_effects_are_those_of_the_scores_in_rows(self, found):
        rows = [json.loads(line) for line in (found[1] / "records.jsonl").read_text().splitlines()]
        assert [row["id"] for row in rows] == [q.id for q in ASKED]

        def means(scores):
            chosen = [np.argmax(s) == row["answer"] for s, row in zip(scores, rows, strict=True)]
            nll = [np.logaddexp.reduce(s) - s[row["answer"]] for s, row in zip(scores, rows, strict=True)]
            return 100 * np.mean(chosen), np.mean(nll)

        base = means([row["scores"] for row in rows])
        assert found[0].base.accuracy.value == pytest.approx(base[0])
        assert found[0].base.loss.value == pytest.approx(base[1])
        for effect in found[0].effects:
            if effect.layer is None:
                accuracy, loss = means([row["trials"][f"{effect.intervention}, {effect.where}"] for row in rows])
                assert effect.accuracy.value == pytest.approx(accuracy - base[0], abs=1e-6)
                assert effect.loss.value == pytest.approx(loss - base[1], abs=1e-6)
                assert effect.loss.low <= effect.loss.value <= effect.loss.high

    def test_the_oracle_is_tried_at_the_rates_that_methods_use(self, found):
        assert USUAL_RATES == {0.01: "ngd", 0.1: "10 × ngd"}
        assert [(r.rate, r.of, r.selector) for r in found[0].reached] == [
            (rate, of, selector) for rate, of in USUAL_RATES.items() for selector in (FIVE, ALL)
        ]
        assert all(0 < r.n < len(ASKED) for r in found[0].reached), "of some questions"
        assert all(r.loss.value < 0 for r in found[0].reached), "the label's own loss falls"

    def test_use(self, found, model):
        layer = found[0].layers[0]
        assert sum(layer.load) == pytest.approx(1, abs=1e-3)
        assert 0 < layer.entropy < 1
        assert 0 <= layer.kinds.share <= 1
        assert len(found[0].bans) == 10
        assert not found[0].bans_exact
        assert found[0].bans[0].loss.value >= found[0].bans[-1].loss.value

    def test_of_one_kind_mutual_information_is_left_out_and_said(self, model):
        alike = [replace(q, task="", subject="") for q in ASKED[:4]]
        summary = audit(model, [*alike, *(replace(q, id=f"{q.id} again", answer=0) for q in alike)])
        assert all(layer.kinds is None for layer in summary.layers)
        assert "one kind" in summary.left_out["mutual information"]
        assert summary.base.n == 4, "equal questions count once, whatever their answers"
        assert summary.left_out["repeated questions"].startswith("questions gives 4 of its questions again under")

    def test_page_and_picture(self, found):
        page = (found[1] / "report.html").read_text()
        assert found[0].sentence in page.replace("&#39;", "'")
        assert page.count("<svg ") == 2
        for name in ("permuted, all tokens", "permuted, answers (to ", "experts tell kinds"):
            assert name in page

    def test_is_read_back(self, found):
        assert summary_of(found[1]) == found[0]
        assert Audit.model_validate_json((found[1] / "summary.json").read_text()).line == leverage_line(found[0])


class TestDeep:
    def test_everything_in_each_layer_and_bans_carried_out(self):
        model = model_of("olmoe")
        summary = audit(model, ASKED[:4], deep=True, rates=[0.1])
        assert summary.bans_exact
        assert len(summary.effects) == 5 * 2 * (1 + len(model.sites))
        assert [r.n for r in summary.reached] == [4]
        assert summary.left_out.pop("expected gain").startswith("4 questions are too few")
        assert summary.left_out == {FIVE: "the model has 3 MoE layers"}

    def test_first_order_bans_are_near_those_carried_out(self):
        """Experts of a tenth of their size: then a ban is a small change."""
        model = model_of("olmoe")
        for site in model.sites:
            site.experts.down_proj.data *= 0.1
        told, exact = (audit(model, ASKED[:4], deep=deep) for deep in (False, True))
        each = {(b.layer, b.expert): b.loss.value for b in told.bans}
        both = [(each[b.layer, b.expert], b.loss.value) for b in exact.bans if (b.layer, b.expert) in each]
        assert len(both) >= 5
        assert np.corrcoef(np.array(both).T)[0, 1] > 0.8


class TestResumes:
    def test_after_an_interruption_with_the_same_result(self, model, found, tmp_path):
        shown = []

        def interrupted(items, label, total=None):
            shown.append((label, len(items)))
            for number, item in enumerate(items):
                if number == 8:
                    raise KeyboardInterrupt
                yield item

        with pytest.raises(KeyboardInterrupt):
            audit(model, ASKED, tmp_path / "run", progress=interrupted)
        lines = (tmp_path / "run" / "records.jsonl").read_text().splitlines()
        assert len(lines) == 8 and shown == [("auditing questions", 24)], "it is questions that are counted"
        assert not (tmp_path / "run" / "summary.json").exists()
        with pytest.raises(DataError, match="run to the end"):
            summary_of(tmp_path / "run")
        summary = audit(model, ASKED, tmp_path / "run")
        assert (tmp_path / "run" / "records.jsonl").read_text().splitlines()[: len(lines)] == lines
        assert summary.base == found[0].base
        assert summary.sentence == found[0].sentence

    def test_a_finished_one_is_not_run_again(self, model, found, monkeypatch):
        monkeypatch.setattr("c3po_audit.measure.Measurement.rows", None)
        assert timeless(audit(model, ASKED, found[1])) == timeless(found[0])

    @pytest.mark.parametrize("other", [{"deep": True}, {"seed": 1}, {"rates": [0.3]}, {"format": "letter"}])
    def test_another_one_is_refused(self, model, found, other):
        with untouched(found[1]), pytest.raises(DataError, match="to hold the run"):
            audit(model, ASKED, found[1], **other)

    def test_other_questions_are_refused(self, model, found):
        with untouched(found[1]), pytest.raises(DataError, match="they differ in questions"):
            audit(model, ASKED[:-1], found[1])

    def test_of_the_model_set_otherwise_is_refused(self, model, found, monkeypatch):
        monkeypatch.setattr(model.model.config, "rms_norm_eps", 1e-3)
        with untouched(found[1]), pytest.raises(DataError, match=r"inputs\.settings"):
            audit(model, ASKED, found[1])


def test_a_model_in_memory_goes_with_its_tokenizer():
    loaded = model_of("olmoe")
    wanted = audit(loaded, ASKED[:2], rates=[0.1]).effect("permuted", "all tokens")
    module = loaded.model.train()
    with pytest.raises(SettingError, match="say tokenizer="):
        audit(module, ASKED[:2])
    assert audit(module, ASKED[:2], rates=[0.1], tokenizer=loaded.tokenizer).effect("permuted", "all tokens") == wanted
    assert all(part.training for part in module.modules())


def test_prints_on_a_screen(found):
    said = str(found[0])
    assert said == repr(found[0]) and said.startswith(f"Audit of {found[0].model} on {found[0].dataset}: ")
    assert found[0].sentence in said and all(why in said for why in found[0].left_out.values())
    (permuted,) = (line for line in said.splitlines() if line.startswith("  permuted, answers: "))
    assert f"{found[0].effect('permuted', 'answers').loss.value:+.3f} [" in permuted
    assert len(said.splitlines()) < 25


class TestBadInput:
    def test_what_are_no_questions(self, model):
        with pytest.raises(DataError, match=r"Question records, got str; those of a source are questions\(SOURCE\)"):
            audit(model, "demo:validation")

    def test_questions_without_answers(self, model):
        with pytest.raises(DataError, match=r"labeled questions, got 1 without an answer, as 'r1'"):
            audit(model, [ASKED[0], replace(ASKED[1], answer=None)])

    @pytest.mark.parametrize("count", [0, 1])
    def test_too_few(self, model, count):
        with pytest.raises(DataError, match=f"2 different questions at least, got {count}"):
            audit(model, ASKED[:count])

    def test_one_id_twice(self, model):
        is_refused(lambda: audit(model, [ASKED[0], ASKED[0]]))

    @pytest.mark.parametrize("rates", [[0.0], [-1], [float("nan")], [float("inf")], [0.1, 0.1], ["fast"]])
    def test_rates(self, model, rates):
        with pytest.raises(SettingError, match=r"learning rates above zero, got .* 0\.01 \(ngd\), 0\.1 \(10 × ngd"):
            audit(model, ASKED[:4], rates=rates)

    def test_a_broken_folder(self, model, tmp_path):
        (tmp_path / "config.json").write_text("[]")
        with untouched(tmp_path):
            is_refused(lambda: audit(model, ASKED[:4], tmp_path))
        (tmp_path / "file").write_text("")
        is_refused(lambda: audit(model, ASKED[:4], tmp_path / "file"))


class TestUse:
    def test_experts_of_their_own_tell_all_of_the_kind_and_shared_ones_nothing(self):
        kinds = ["a", "b"] * 50
        used = [[[4, 0], [1, 1]] if kind == "a" else [[0, 2], [3, 3]] for kind in kinds]
        own, even = shared_with_kinds(loads(used), kinds, 0)
        assert own.share == pytest.approx(1)
        assert even.share == pytest.approx(0)
        assert own.by_chance < 0.1

    def test_entropy(self):
        assert evenness(np.array([0.25] * 4)) == pytest.approx(1)
        assert evenness(np.array([1.0, 0, 0, 0])) == 0


class TestCommand:
    @pytest.fixture
    def place(self, tmp_path, monkeypatch):
        write_tiny_checkpoint(tmp_path / "model", "olmoe")
        rows = [{"id": q.id, "question": q.question, "choices": q.choices, "answer": q.answer} for q in ASKED[:6]]
        (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)))
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def test_prints_its_summary_alone(self, place):
        result = CliRunner().invoke(app, ["audit", "model", "asked.jsonl", "--json", "--out", "run"])
        assert json.loads(result.stdout) == json.loads((place / "run" / "summary.json").read_text())
        again = CliRunner().invoke(app, ["audit", "asked.jsonl", "--model", "model", "--out", "run"])
        assert again.exit_code == 0, again.output
        assert again.stdout.splitlines()[-1] == summary_of(place / "run").sentence
        drawn = (place / "run" / "report.html").read_text()
        (place / "run" / "report.html").unlink()
        assert CliRunner().invoke(app, ["report", "run"]).exit_code == 0
        assert (place / "run" / "report.html").read_text() == drawn

    def test_says_beforehand_what_it_cannot_and_has_a_folder_for_each_model_and_questions(self, place):
        (place / "model").rename(place / "one")
        (place / "other").symlink_to("one")
        for model, asked in (("one", "asked.jsonl"), ("other", "asked.jsonl"), ("./one", "demo:validation")):
            done = CliRunner().invoke(app, ["audit", model, asked, "--limit", "4"])
            assert done.exit_code == 0, done.output
        made = {str(page.parent.relative_to("runs/audit")) for page in Path("runs").rglob("report.html")}
        assert made == {"one/asked", "other/asked", "one/demo-validation"}
        nowhere = CliRunner().invoke(app, ["audit", "nowhere", "demo", "--limit", "4"])
        assert "expected gain: 4 questions are too few" in nowhere.stderr

    def test_bad_input(self, place):
        write_dense(place / "dense")
        result = CliRunner().invoke(app, ["audit", "dense", "asked.jsonl"])
        assert result.exit_code == 1
        assert "it is dense" in result.stderr
        for args in (["nowhere", "asked.jsonl"], ["model", "nowhere.jsonl"], ["model", "asked.jsonl", "--rates", "-1"]):
            assert command("audit", *args) == 1
        for args in ([], ["demo:test"], ["asked.jsonl", "more", "--model", "model"]):
            assert CliRunner().invoke(app, ["audit", *args]).exit_code == 2, args


def write_dense(folder):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from c3po_adaptive.testing import tiny_tokenizer

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng(devices=[]):
        LlamaForCausalLM(LlamaConfig(vocab_size=128, **sizes)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
