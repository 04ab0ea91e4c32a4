"""The recipe of the embedded model, each step alone, on a tiny Llama and toy tasks, offline."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from embedded_model import sweep
from embedded_model.apart import Recipe, Row, Upper, answer_loss, batches, entries, plan_of, products, train
from embedded_model.card import card
from embedded_model.make import donor, others_of, states_of
from embedded_model.router import Moments, Routing, moments, routers
from embedded_model.tensors import export, recipe_of
from embedded_model.together import Together
from embedded_model.together import loss_of as joint_loss
from models.embedded.test_builder import tiny_llama
from transformers import LlamaConfig, LlamaForCausalLM

from c3po_adaptive.errors import ModelError
from c3po_adaptive.models.embedded.assemble import assemble, read_tensors
from c3po_adaptive.models.embedded.builder import TENSORS
from c3po_adaptive.models.tiny import tiny_tokenizer, write_tiny_checkpoint

RECIPE = Recipe(layers=(1, 2), width=8, experts=3, lr=2e-2, batch=64, epochs=6, warmup=2)
HOW = Routing(top_k=2)
TASKS = {0: 40, 1: 50, 2: 60}
"""Each family's answer to everything, by its own first token."""


@pytest.fixture(scope="module")
def dense():
    return tiny_llama()


@pytest.fixture(scope="module")
def rows():
    """Questions that begin with their family's token, and end in what that family answers."""
    source = torch.Generator().manual_seed(1)
    found = []
    for expert, answer in TASKS.items():
        for _ in range(20):
            length = int(torch.randint(3, 8, (1,), generator=source))
            body = torch.randint(4, 36, (length,), generator=source).tolist()
            found.append(Row((expert + 1, *body, answer), len(body) + 1, expert, f"kind {expert}"))
    return found


@pytest.fixture(scope="module")
def states(dense, rows):
    return entries(dense, rows, RECIPE.layers[0], tokens=64)


def learner(dense, rows, states, kind=Upper, loss=answer_loss, recipe=RECIPE):
    upper = kind(dense, recipe)
    head = dense.lm_head.weight.data
    return upper, lambda batch: loss(upper, head, [rows[i] for i in batch], [states[i] for i in batch]).mean()


@pytest.fixture(scope="module")
def trained(dense, rows, states, tmp_path_factory):
    upper, loss = learner(dense, rows, states)
    list(train(upper, loss, rows, RECIPE, tmp_path_factory.mktemp("trained") / "checkpoint.pt"))
    return upper


def test_states_are_what_enters_the_layer(dense, rows, states):
    ids = torch.tensor([rows[0].ids])
    expected = dense(ids, output_hidden_states=True).hidden_states[RECIPE.layers[0]][0]
    torch.testing.assert_close(states[0], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_training_begins_at_the_dense_model(dense, rows, states):
    upper, _ = learner(dense, rows, states)
    found = answer_loss(upper, dense.lm_head.weight, rows[:5], states[:5])
    for row, loss in zip(rows[:5], found, strict=True):
        logits = dense(torch.tensor([row.ids])).logits[0, row.start - 1 : -1]
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[row.start :]))
        torch.testing.assert_close(loss, expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_experts_learn_their_own_family(dense, rows, states, trained):
    own = answer_loss(trained, dense.lm_head.weight, rows, states).mean()
    others = [Row(row.ids, row.start, (row.expert + 1) % 3, row.kind) for row in rows]
    wrong = answer_loss(trained, dense.lm_head.weight, others, states).mean()
    assert own < 0.5
    assert wrong > own + 2


def test_an_interrupted_training_ends_where_one_in_a_piece_does(dense, rows, states, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("embedded_model.apart.KEPT_EVERY", 5)
    checkpoint = tmp_path / "checkpoint.pt"
    upper, loss = learner(dense, rows, states)
    for record in train(upper, loss, rows, RECIPE, checkpoint):
        if record["step"] == 12:
            break
    again, loss = learner(dense, rows, states)
    steps = [record["step"] for record in train(again, loss, rows, RECIPE, checkpoint)]
    assert steps[0] == 10
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, msg=name)


def test_batches_hold_every_row_once(rows):
    plan = plan_of(rows, RECIPE)
    assert sorted(i for batch in plan for i in batch) == sorted(list(range(len(rows))) * RECIPE.epochs)
    for batch in batches(rows, range(len(rows)), 64):
        assert len(batch) * max(len(rows[i].ids) for i in batch) <= 64


def test_ridge_tells_apart_what_is_apart():
    source = torch.Generator().manual_seed(0)
    expert = torch.randint(3, (300,), generator=source)
    x = torch.eye(3, 16)[expert] + 0.05 * torch.randn(300, 16, generator=source)
    found = Moments(16, 3)
    for part in range(0, 300, 100):
        found.add(x[part : part + 100], expert[part : part + 100], torch.ones(100))
    assert torch.equal((x @ found.solve(1e-3).T).argmax(1), expert)


@torch.no_grad()
def test_the_assembled_model_routes_by_family(dense, rows, states, trained):
    found = routers(moments(trained, rows, states), HOW)
    tensors = export(trained, found)
    model = assemble(dense, tensors, recipe_of(RECIPE, HOW))
    right = [
        int(model(torch.tensor([row.ids[: row.start]])).logits[0, -1].argmax()) == TASKS[row.expert] for row in rows
    ]
    assert sum(right) >= 0.9 * len(rows)
    without = {name: torch.zeros_like(t) if ".down" in name else t for name, t in tensors.items()}
    plain = assemble(dense, without, recipe_of(RECIPE, HOW))
    ids = torch.tensor([rows[0].ids])
    torch.testing.assert_close(plain(ids).logits, dense(ids).logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_experts_of_nothing_leave_any_donor_as_it_is(dense, trained):
    """Also one with a head of its own, and another activation."""
    config = LlamaConfig(**dense.config.to_dict() | {"tie_word_embeddings": False, "hidden_act": "gelu"})
    other = LlamaForCausalLM(config).eval()
    other.lm_head.weight.add_(torch.randn(other.lm_head.weight.shape, generator=torch.Generator().manual_seed(0)))
    found = export(trained, {i: torch.zeros(RECIPE.experts, 32) for i in RECIPE.layers})
    nothing = {name: torch.zeros_like(t) if ".down" in name else t for name, t in found.items()}
    ids = torch.arange(4, 12)[None]
    expected = other(ids).logits
    torch.testing.assert_close(
        assemble(other, nothing, recipe_of(RECIPE, HOW))(ids).logits, expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("other", [{"attention_bias": True}, {"mlp_bias": True}, {"head_dim": 4}])
def test_a_donor_that_experts_cannot_stand_beside_is_refused(dense, tmp_path, other):
    LlamaForCausalLM(LlamaConfig(**dense.config.to_dict() | other)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="Expected a Llama without biases"):
        donor(str(tmp_path))


def test_a_donor_that_is_none_is_refused(tmp_path):
    with pytest.raises(ModelError, match="Expected a Llama at"):
        donor(str(tmp_path / "nowhere"))
    write_tiny_checkpoint(tmp_path / "olmoe", "olmoe")
    with pytest.raises(ModelError, match="got OlmoeForCausalLM"):
        donor(str(tmp_path / "olmoe"))


def test_states_of_another_donor_are_not_met(dense, rows, tmp_path):
    first = states_of(dense, rows[:3], RECIPE, tmp_path)
    other = LlamaForCausalLM(dense.config).eval().requires_grad_(False)
    second = states_of(other, rows[:3], RECIPE, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert not torch.equal(first[0], second[0])
    torch.testing.assert_close(states_of(dense, rows[:3], RECIPE, tmp_path)[0], first[0])


@torch.no_grad()
def test_one_byte_a_number_is_close(dense, rows, states, trained):
    """The assembled model, every token sent to one expert alone, is the upper layers with that expert."""
    sent = {i: torch.zeros(RECIPE.experts, 32) for i in RECIPE.layers}
    model = assemble(dense, export(trained, sent), recipe_of(RECIPE, Routing(top_k=1)))
    rows = [Row(row.ids, row.start, 0, row.kind) for row in rows[:10]]  # equal scores: the first is taken
    expected = answer_loss(trained, dense.lm_head.weight, rows, states[:10])
    for row, loss in zip(rows, expected, strict=True):
        logits = model(torch.tensor([row.ids])).logits[0, row.start - 1 : -1]
        found = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[row.start :]))
        assert abs(found - loss) < 0.05 * (1 + loss)


def test_the_sister_learns_together(dense, rows, states, tmp_path):
    upper, loss = learner(dense, rows, states, Together, joint_loss)
    losses = [record["loss"] for record in train(upper, loss, rows, RECIPE, tmp_path / "checkpoint.pt")]
    assert sum(losses[-5:]) < sum(losses[:5]) - 5
    assert len(upper.routers()) == 2
    with torch.no_grad():
        model = assemble(dense, export(upper, upper.routers()), recipe_of(RECIPE, HOW))
        ids = torch.tensor([rows[0].ids])
        expected = upper(states[0][None], torch.tensor([0])) @ dense.lm_head.weight.T
        torch.testing.assert_close(model(ids).logits, expected, atol=0.3, rtol=0.05)


def test_a_sweep_tries_what_is_not_done(tmp_path, monkeypatch):
    tokenizer = tiny_tokenizer()
    dense = tiny_llama(vocab_size=len(tokenizer))
    kinds = ("svamp_operation", "clinc_domain")
    rows = []
    for i, kind in enumerate(kinds):
        asked = [
            {"id": f"{kind}-{k}", "task": kind, "question": f"{kind} {k}?", "choices": ["a", "b"], "answer": k % 2}
            for k in range(6)
        ]
        (tmp_path / f"{kind}.validation.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
        texts = [tokenizer(f"{one['question']} {one['choices'][i]}").input_ids for one in asked]
        rows += [Row(tuple(ids), len(ids) - 1, i, kind) for ids in texts]
    short = Recipe(layers=(1, 2), width=4, experts=2, batch=256)
    monkeypatch.setattr(sweep, "Recipe", lambda **given: replace(short, **given))
    monkeypatch.setattr(sweep, "LEARNED", dict.fromkeys(kinds, ""))
    monkeypatch.setattr(sweep, "family_of", lambda question: kinds.index(question.task))
    wide = sweep.Variant({"width": 8}, by_kind=True)
    tried = {"as shipped": sweep.Variant(routing={"": HOW, "top 1": Routing(top_k=1)}), "wide": wide}
    monkeypatch.setattr(sweep, "VARIANTS", tried)
    found = list(sweep.sweep(dense, tokenizer, rows, tmp_path, [("as shipped", "")], tmp_path))
    assert [(r["name"], r["routing"]) for r in found] == [("as shipped", "top 1"), ("wide", "")]
    assert all(r["n"] == 12 and 0 <= r["routed"] <= 100 and r["loss"] > 0 for r in found)


def test_half_precision_is_close(dense, rows, states):
    half = replace(RECIPE, half=True)
    with products(half):
        torch.testing.assert_close(entries(dense, rows[:1], 1)[0], states[0], atol=0.1, rtol=0.05)


def test_the_card_is_what_was_measured():
    studies = Path(__file__).parents[2] / "studies" / "embedded_model"
    text = TENSORS.with_name("MODEL_CARD.md").read_text()
    figures = json.loads((studies / "apart-0.json").read_text())
    log = [json.loads(line) for line in (studies / "apart-0.jsonl").read_text().splitlines()]
    rows = int(re.search(r"over ([\d,]+) rows", text)[1].replace(",", ""))
    tried = [json.loads(line) for path in studies.glob("sweep.jsonl") for line in path.read_text().splitlines()]
    others = others_of(studies / "apart-0.json")
    assert card(figures, read_tensors(TENSORS)[1], rows, log, others, tried) == text
