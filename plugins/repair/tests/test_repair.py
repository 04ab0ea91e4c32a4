"""Routers mended by labeled questions: the regression, what it does to a broken model, and what is written."""

import copy
import json
from collections import Counter
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from c3po_repair import repair
from c3po_repair.closed_form import ANSWERS, Reads, read
from c3po_repair.left_out import Answered, Repair, answered, folds_of, judged
from c3po_repair.tuned import tuned
from sklearn.linear_model import Ridge
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from c3po_adaptive import (
    DataError,
    ModelError,
    Question,
    RoutedModel,
    SettingError,
    default_registry,
    load_moe_model,
    router_tensors,
    with_tensors,
)
from c3po_adaptive.cli import app
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, toy_context, write_tiny_checkpoint

KINDS = ("alb", "tok", "mir", "sun")


@cache
def sound():
    """A random model whose experts are worth telling apart, and whose routers do."""
    made = tiny_moe("qwen2_moe", shared_expert_intermediate_size=8)
    with torch.no_grad():
        for layer in made.model.layers:
            layer.mlp.experts.down_proj.mul_(3)
    model = RoutedModel(made, tiny_tokenizer(), name="toy")
    return with_tensors(model, {name: 6 * tensor for name, tensor in routers(model).items()})


@cache
def broken():
    """The sound model with its experts' rows in another order."""
    return with_tensors(sound(), {name: tensor.roll(3, 0) for name, tensor in routers(sound()).items()})


def routers(model):
    """The routers' matrices, by name."""
    return dict(next(iter(router_tensors(model.model, site).items())) for site in model.sites)


@cache
def references(count=120):
    """Questions whose right choice is what the sound model says."""
    words = [f"{KINDS[i % 4]} {i}: which of these" for i in range(count)]
    choices = [tuple(f"{KINDS[(i + j) % 4]}{j}" for j in range(3)) for i in range(count)]
    asked = [Question(f"q{i}", text, options) for i, (text, options) in enumerate(zip(words, choices, strict=True))]
    found = sound().score_choices(asked)
    return [Question(q.id, q.question, q.choices, int(s.argmax())) for q, s in zip(asked, found, strict=True)]


class TestRegression:
    def test_rows_are_those_of_a_weighed_ridge_regression(self):
        generator = torch.Generator().manual_seed(0)
        tokens = [torch.randn(count, 2, 5, generator=generator, dtype=torch.float64) for count in (3, 4, 2)]
        worth = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
        products = sum(torch.einsum("tlh,tlk->lhk", t, t) / len(t) for t in tokens)
        got = Reads(products, torch.stack([t.mean(0) for t in tokens])).rows(worth, 0.7)
        y = worth - worth.mean(-1, keepdim=True)
        y = y - y.mean(0)
        for layer in range(2):
            x = torch.cat([t[:, layer] for t in tokens])
            target = torch.cat([y[i, layer].expand(len(t), -1) for i, t in enumerate(tokens)])
            weight = torch.cat([torch.full((len(t),), 1 / len(t)) for t in tokens])
            alpha = 0.7 * float(products[layer].diagonal().mean())
            known = Ridge(alpha=alpha, fit_intercept=False).fit(x, target, sample_weight=weight)
            assert np.allclose(got[layer], known.coef_, atol=1e-5)

    def test_reads_what_the_routers_read_and_counts_each_reference_once(self):
        model = sound()
        question = Question("q", "alb 1: which", ("mir", "sun"), 0)
        (state,) = model.prefill([model.encode(question)], scope="all")
        reads, flops = read(model, [state])
        seen = {}
        router = model.sites[1].router
        hook = router.register_forward_pre_hook(lambda module, args: seen.setdefault("x", args[0].reshape(-1, 32)))
        expected, total = torch.zeros(32), 0.0
        prompt = model.encode(question)
        for n, option in enumerate(prompt.options):
            seen.clear()
            ids = [*prompt.ids, *option][:-1]
            with torch.no_grad():
                model.model(input_ids=torch.tensor([ids]))
            for place, row in enumerate(seen["x"]):
                if n and place < len(prompt.ids):
                    continue  # the prompt is read once
                weight = ANSWERS if place >= len(prompt.ids) - 1 else 1.0
                expected, total = expected + weight * row, total + weight
        hook.remove()
        assert torch.allclose(reads.means[0, 1], expected / total, atol=1e-5)
        assert flops > 0

    def test_a_router_that_does_more_than_a_product_is_refused(self):
        model = RoutedModel(tiny_moe("gemma4_text"), tiny_tokenizer())
        states = model.prefill([model.encode(q) for q in references(2)], scope="all")
        with pytest.raises(ModelError, match="by a matrix times what it reads"):
            read(model, states)


@cache
def mended():
    return repair(broken(), references())


class TestMended:
    def test_a_broken_model_answers_references_better_that_it_was_not_mended_by(self):
        before, found = broken().fingerprint, mended()
        assert found.helps and found.after.loss.mean() < found.before.loss.mean()
        assert broken().fingerprint == before, "the model itself is left as it was"
        assert found.flops > 0 and len(found.steps) == 1

    def test_nothing_but_routers_is_other_than_it_was(self):
        found = mended()
        routers = {n for site in broken().sites for n in router_tensors(broken().model, site)}
        for name, tensor in broken().model.state_dict().items():
            same = torch.equal(tensor, found.model.model.state_dict()[name])
            assert same or name in routers, name
        assert not torch.equal(
            *(one.model.state_dict()["model.layers.0.mlp.gate.weight"] for one in (broken(), found.model))
        )

    def test_labels_at_random_help_nothing(self):
        drawn = torch.Generator().manual_seed(1)
        shuffled = [
            Question(q.id, q.question, q.choices, int(torch.randint(3, (), generator=drawn))) for q in references()
        ]
        assert not repair(sound(), shuffled).helps

    def test_a_second_round_goes_on_from_the_first(self):
        found = repair(broken(), references(), rounds=2)
        assert found.after.loss.mean() <= mended().after.loss.mean()

    def test_by_gradient(self):
        found = tuned(broken(), references(40))
        assert found.steps[0]["lr"] in (1e-3, 3e-3) and found.flops > 0

    def test_references_may_be_a_source_or_rows_and_the_model_one_of_transformers(self, tmp_path):
        asked = references(40)
        rows = [q.row() | {"choices": [*q.choices]} for q in asked]
        (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        wanted = repair(sound(), asked, rounds=0).before.loss
        model = copy.deepcopy(sound().model).train().requires_grad_()
        for given in (tmp_path / "asked.jsonl", str(tmp_path / "asked.jsonl"), rows, (asked[0], *rows[1:])):
            found = repair(model, given, rounds=0, tokenizer=tiny_tokenizer())
            assert np.allclose(found.before.loss, wanted, atol=1e-6)
        (again,) = repair(model, rows, rounds=0, tokenizer=tiny_tokenizer()).model.score_choices(asked[:1])
        assert torch.allclose(again, sound().score_choices(asked[:1])[0], atol=1e-6), "it goes on answering"
        with pytest.raises(SettingError, match="say tokenizer="):
            repair(model, rows)
        with pytest.raises(SettingError, match="no tokenizer beside a RoutedModel"):
            repair(sound(), rows, tokenizer=tiny_tokenizer())

    def test_what_is_no_references_is_refused(self):
        for given, kind in ((sound(), "RoutedModel"), (rows := references()[0].row(), "dict"), ([rows, "mine"], "str")):
            with pytest.raises(DataError, match=rf"a source of labeled questions, or as a list.*got {kind};"):
                repair(sound(), given)

    def test_too_few_references_are_refused(self):
        with pytest.raises(DataError, match="at least 20 references, got 19"):
            repair(broken(), references()[:19])

    def test_references_that_are_given_again_count_once(self):
        """Labels at random are learned by heart, and answered so in another fold."""
        few = references()[:10]
        again = [replace(q, id=f"{q.id} {n}", answer=(q.answer + n) % 3) for n in range(12) for q in few]
        with pytest.raises(DataError, match=r"20 references, got 10;.* gives 110 of .* \(80 with another answer\)"):
            repair(broken(), again)
        whole, twice = (
            references(40),
            [*references(40), replace(references()[0], id="again", question="ALB  0: which of these")],
        )
        one, other = (repair(sound(), asked, rounds=0) for asked in (whole, twice))
        assert np.array_equal(one.before.loss, other.before.loss) and not one.again
        assert str(other).endswith("such as 'again', which is 'q0'.")


class TestGain:
    def repair(self, before, after, loss=(1.0, 2.0, 3.0)):
        one, other = (Answered(np.array(right, float), np.array(loss)) for right in (before, after))
        return Repair(sound(), (), one, other, 0.0)

    def test_is_a_paired_mean_with_its_interval(self):
        found = self.repair([0, 1, 0], [1, 1, 0])
        assert found.points.value == pytest.approx(100 / 3)
        assert found.points.low <= found.points.value <= found.points.high
        assert found.nats.value == 0 and not found.helps

    def test_prints_on_a_screen(self):
        assert str(self.repair([0, 1, 0], [1, 1, 0])).splitlines()[0] == f"Repair of {sound().name!r} in 0 steps:"
        found = self.repair([0] * 100, [1] * 40 + [0] * 60, loss=[1.0] * 100)
        assert found.sentence.startswith("Right: 0.0 → 40.0 % of 100 references, +40.0 points [")
        assert "], more; loss +0.000 nats [0.000, 0.000], no significant difference. Each" in str(found)

    def test_four_of_a_hundred_are_not_shown_to_help(self):
        """By chance as many fall on one side one time in eight."""
        found = self.repair([0] * 100, [1] * 4 + [0] * 96, loss=[1.0] * 100)
        assert found.points.value == 4 and found.points.low <= 0 and not found.helps

    def test_a_choice_among_tries_is_no_gain(self):
        first = Answered(np.array([1.0, 1, 0, 0]), np.array([1.0, 1, 3, 3]))
        second = Answered(np.array([0.0, 0, 1, 1]), np.array([3.0, 3, 1, 1]))
        found, best = judged([first, second], [references()[:2], references()[2:4]])
        assert best == [1, 0] and found.right.tolist() == [0, 0, 0, 0]


def test_left_out_answers_are_those_of_the_models_themselves():
    asked = references()[:16]
    got, _ = answered(sound(), [(broken(), asked[:8]), (sound(), asked[8:])], "cloze")
    scores = torch.stack([*broken().score_choices(asked[:8]), *sound().score_choices(asked[8:])]).double()
    answers = torch.tensor([q.answer for q in asked])
    assert got.right.tolist() == (scores.argmax(-1) == answers).tolist() and got.right[8:].all()
    by_temperature = [-(scores * t).log_softmax(-1)[range(16), answers].mean() for t in np.geomspace(0.05, 20, 4000)]
    assert got.loss.mean() == pytest.approx(float(min(by_temperature)), rel=1e-3), "at the best of all temperatures"


def test_folds_have_as_many_of_each_kind_and_answer():
    asked = [Question(f"q{i}", "?", ("yes", "no"), i % 2, task=f"kind{i % 3}") for i in range(60)]
    for fold in folds_of(asked, 5, seed=0):
        assert {(q.task, q.answer): 2 for q in fold} == dict(Counter((q.task, q.answer) for q in fold))


class TestAnswerer:
    def test_answers_along_mended_routers_beside_the_plain_ones(self):
        context = toy_context()
        made = default_registry().create("answerer", "repaired").prepare(context)
        asked = [Question("new", "alb 99: which of these", ("alb0", "tok1", "mir2"))]
        (answer,) = made.answer(asked)
        assert answer.setup_flops > 0 and answer.base_scores == context.plain(asked)[0].scores
        assert (answer.scores != answer.base_scores) == (made.model is not None)

    def test_what_was_mended_is_kept_beside_the_references(self, tmp_path, monkeypatch):
        context, strategy = toy_context(), default_registry().create("answerer", "repaired")
        kept = partial(replace, context, build_references=lambda: replace(context.references, folder=tmp_path))
        asked = [Question("new", "alb 99: which of these", ("alb0", "tok1", "mir2"))]
        monkeypatch.setattr(Repair, "helps", True)
        first = strategy.prepare(kept()).answer(asked)
        monkeypatch.setattr("c3po_repair.mend.taught", None)
        (again,) = strategy.prepare(kept()).answer(asked)
        assert (again.scores, again.setup_flops) == (
            first[0].scores,
            first[0].setup_flops,
        ) and again.scores != again.base_scores
        assert (tmp_path / "artifacts").exists(), "what references teach, too"

    def test_refuses_too_few(self):
        with pytest.raises(SettingError, match="at least 20 references, got 5"):
            default_registry().create("answerer", "repaired").fits(None, (0,), 4, 5)


class TestCommand:
    @pytest.fixture
    def there(self, tmp_path):
        folder = write_tiny_checkpoint(tmp_path / "broken", "qwen2_moe")
        broken().model.save_pretrained(folder)
        rows = [json.dumps(q.row()) for q in references()]
        (tmp_path / "references.jsonl").write_text("\n".join(rows) + "\n")
        return tmp_path

    def run(self, there, *more):
        names = [
            "--model",
            str(there / "broken"),
            "--references",
            str(there / "references.jsonl"),
            "--dtype",
            "float32",
        ]
        return CliRunner().invoke(app, ["repair", *map(str, names), "--out", str(there / "mended"), *more])

    def test_writes_a_stock_checkpoint_with_what_it_gains_beside_it(self, there):
        done = self.run(there, "--json")
        assert done.exit_code == 0, done.output
        told = json.loads((there / "mended" / "repair.json").read_text())
        assert json.loads(done.stdout) == told and told["helps"] and told["references"] == 120
        assert "Repair by 120 references takes about " in done.stderr, "which is said beforehand"
        stock = AutoModelForCausalLM.from_pretrained(there / "mended")
        loaded = load_moe_model(there / "mended", dtype="float32")
        assert loaded.fingerprint == told["mended"] and torch.equal(stock.lm_head.weight, loaded.model.lm_head.weight)

    def test_writes_nothing_that_does_not_help_unless_it_is_asked_to(self, there):
        shuffled = [
            json.dumps(Question(q.id, q.question, q.choices, i * 7 % 3).row()) for i, q in enumerate(references())
        ]
        (there / "references.jsonl").write_text("\n".join(shuffled) + "\n")
        refused = self.run(there)
        assert refused.exit_code == 1 and "--anyway" in refused.output and not (there / "mended").exists()
        written = self.run(there, "--anyway")
        assert (
            written.stdout.startswith(f"Wrote {there / 'mended'}. Right: ") and "fitted temperature" in written.stdout
        )
        assert not json.loads((there / "mended" / "repair.json").read_text())["helps"]
