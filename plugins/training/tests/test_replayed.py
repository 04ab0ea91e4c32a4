"""Steps of trainers along routes: held against a step by hand."""

from dataclasses import replace

import pytest
import torch
from c3po_training import MoEMonitor, ReplayedTrainer, with_routes
from transformers import DataCollatorForLanguageModeling, TrainingArguments

from c3po_adaptive import SettingError, read_routing, record, replaying
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer

TEXTS = ("the boat floats on water", "who sells bread", "a stone sinks", "so")


@pytest.fixture
def model():
    return tiny_moe("qwen3_moe").train()


@pytest.fixture
def tokenizer():
    found = tiny_tokenizer()
    found.padding_side = "right"
    return found


def routed(model, tokenizer):
    """Texts with routes that are not the model's own: each token's least wanted experts."""
    for text in TEXTS:
        row = dict(tokenizer(text))
        with torch.no_grad():
            read = read_routing(model, {"input_ids": torch.tensor([row["input_ids"]])})
        yield {**row, "routes": (-read.logits[0]).topk(2, -1).indices}


def arguments(folder, **more):
    given = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "max_steps": 1}
    return TrainingArguments(str(folder), **{"remove_unused_columns": False, **given, **more})


@pytest.mark.parametrize(("checkpointed", "accumulated"), [(False, 1), (True, 1), (True, 2)])
def test_a_step_is_that_along_the_routes(model, tokenizer, tmp_path, checkpointed, accumulated):
    if checkpointed:
        (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
    rows, collate = [*routed(model, tokenizer)], DataCollatorForLanguageModeling(tokenizer, mlm=False)
    given = arguments(
        tmp_path,
        optim="sgd",
        learning_rate=1.0,
        max_grad_norm=0,
        per_device_train_batch_size=4 // accumulated,
        gradient_accumulation_steps=accumulated,
    )
    trainer = ReplayedTrainer(model, given, with_routes(collate), train_dataset=rows)
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    monitor = MoEMonitor(drift=False).attach(trainer)
    trainer.train()
    stepped = {name: before[name] - tensor.detach() for name, tensor in model.named_parameters()}
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(before[name])
    model.zero_grad()
    batch = with_routes(collate)(rows)
    with replaying(model, batch.pop("routes")):
        model(**batch).loss.backward()
    for name, tensor in model.named_parameters():
        torch.testing.assert_close(stepped[name], tensor.grad, atol=1e-5, rtol=1e-4, msg=name)
    assert monitor.load.counts.sum() == 2 * 3 * sum(len(row["input_ids"]) for row in rows), "of three layers, once"


def test_a_monitor_counts_the_routes_of_traces_as_it_does_their_ids(model, tokenizer, tmp_path):
    counted = []
    for weights in (None, True):
        rows, collate = [*routed(model, tokenizer)], DataCollatorForLanguageModeling(tokenizer, mlm=False)
        for row, text in zip(rows, TEXTS, strict=True):
            trace = record(model, text, tokenizer=tokenizer)
            routes = row["routes"]
            shares = torch.full(routes.shape, 0.5) if weights else None
            row["routes"] = replace(trace, experts=routes.to(trace.experts.dtype), weights=shares)
        trainer = ReplayedTrainer(model, arguments(tmp_path, learning_rate=0.0), collate, train_dataset=rows)
        monitor = MoEMonitor(drift=False).attach(trainer)
        trainer.train()
        counted.append((monitor.logged or monitor.load).counts)
    assert torch.equal(*counted)
    own = torch.zeros_like(counted[0])
    for text in TEXTS:
        with torch.no_grad():
            read = read_routing(model.eval(), {"input_ids": torch.tensor([tokenizer(text)["input_ids"]])}).experts
        for layer in range(own.shape[0]):
            own[layer] += torch.bincount(read[0, :, layer].flatten(), minlength=own.shape[1])
    assert not torch.equal(counted[0], own)


def test_a_batch_without_routes_is_refused(model, tokenizer, tmp_path):
    rows, collate = [*routed(model, tokenizer)], DataCollatorForLanguageModeling(tokenizer, mlm=False)
    plain = [{name: value for name, value in row.items() if name != "routes"} for row in rows]
    trainer = ReplayedTrainer(model, arguments(tmp_path), collate, train_dataset=plain)
    with pytest.raises(SettingError, match=r"'routes' in each batch, got .* give them with each row"):
        trainer.train()


def test_routes_that_the_trainer_took_out_are_missed_by_name(model, tokenizer, tmp_path):
    collate = with_routes(DataCollatorForLanguageModeling(tokenizer, mlm=False))
    given = arguments(tmp_path, remove_unused_columns=True)
    trainer = ReplayedTrainer(model, given, collate, train_dataset=[*routed(model, tokenizer)])
    with pytest.raises(SettingError, match="say remove_unused_columns=False"):
        trainer.train()


def test_a_row_may_bring_its_trace(model, tokenizer, tmp_path):
    """Of the model as it was before it was trained; its weights are used, so that routers get no gradients."""
    traces = [record(model, text, tokenizer=tokenizer, rule="ban:3") for text in TEXTS[:2]]
    rows = [{"input_ids": trace.tokens.tolist(), "routes": trace} for trace in traces]
    collate = with_routes(DataCollatorForLanguageModeling(tokenizer, mlm=False))
    given = arguments(tmp_path, max_steps=2, logging_steps=1, optim="sgd", learning_rate=0.1, max_grad_norm=0)
    before = [layer.mlp.gate.weight.detach().clone() for layer in model.model.layers]
    batch = collate(rows)
    with torch.no_grad(), replaying(model, batch.pop("routes")):
        wanted = float(model(**batch).loss)
    trainer = ReplayedTrainer(model, given, collate, train_dataset=rows)
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert losses[0] == pytest.approx(wanted, rel=1e-4) and losses[1] < losses[0]
    assert all(torch.equal(layer.mlp.gate.weight, old) for layer, old in zip(model.model.layers, before, strict=True))
