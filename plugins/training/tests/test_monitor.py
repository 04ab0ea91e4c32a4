"""What is logged of routing in training: held against routing that is read batch by batch."""

import pytest
import torch
from c3po_training import MoEMonitor
from transformers import Trainer, TrainerCallback, TrainingArguments

from c3po_adaptive import ModelError, SettingError, read_routing
from c3po_adaptive.testing import tiny_moe

E = 8
KEYS = ["max_vio", "min_vio", "avg_vio", "dead_experts", "entropy", "drift"]


class Reported(TrainerCallback):
    """As a reporter of Weights & Biases or TensorBoard hears of logs."""

    def __init__(self):
        self.heard = []

    def on_log(self, args, state, control, *, logs, **kwargs):
        self.heard.append(dict(logs))


@pytest.fixture
def model():
    return tiny_moe("qwen3_moe").train()


def rows(count=8):
    drawn = torch.Generator().manual_seed(0)
    for length in range(4, 4 + count):
        ids = torch.randint(5, 60, (12,), generator=drawn)
        mask = (torch.arange(12) < length).long()
        yield {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def trainer_of(model, folder, callbacks=(), **more):
    settings = {"learning_rate": 0.0, "logging_steps": 1, "per_device_train_batch_size": 4, "max_steps": 2}
    given = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", **settings, **more}
    data = [*rows()]
    return Trainer(model, TrainingArguments(str(folder), **given), train_dataset=data, eval_dataset=data,
                   callbacks=[*callbacks])  # fmt: skip


def logged(trainer):
    return [log for log in trainer.state.log_history if "loss" in log]


def test_what_is_logged_is_what_routing_says_and_reporters_hear_it(model, tmp_path):
    reporter = Reported()
    trainer = trainer_of(model, tmp_path, [reporter], logging_steps=2, eval_strategy="steps", eval_steps=1)
    monitor = MoEMonitor(by_layer=True).attach(trainer)
    trainer.train()
    (log,) = logged(trainer)
    (heard,) = (one for one in reporter.heard if "loss" in one)
    assert {name: value for name, value in log.items() if "moe" in name}.items() <= heard.items()
    batch = {key: torch.stack([row[key] for row in rows()]) for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        read = read_routing(model, batch)
    used = read.experts[read.real]
    counts = torch.stack([used[:, layer].flatten().bincount(minlength=E) for layer in range(used.shape[1])]).double()
    over = counts / counts.mean(-1, keepdim=True) - 1
    found = {name.removeprefix("moe/"): value for name, value in log.items()}
    assert found["max_vio"] == pytest.approx(float(over.max(-1).values.mean()))
    assert found["min_vio"] == pytest.approx(float(over.min(-1).values.mean()))
    assert found["avg_vio"] == pytest.approx(float(over.abs().mean()))
    assert found["dead_experts"] == int((counts == 0).sum())
    entropy = torch.distributions.Categorical(logits=read.logits[read.real]).entropy()
    assert found["entropy"] == pytest.approx(float(entropy.mean()), rel=1e-4)
    assert found["drift"] == 0, "nothing was learned"
    assert found["max_vio/0"] == pytest.approx(float(over[0].max())) and "dead_experts/0" in found
    assert set(KEYS) <= set(found) and monitor.load is not None


def test_layers_that_checkpointing_runs_again_count_once(model, tmp_path):
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
    trainer = trainer_of(model, tmp_path, logging_steps=5)
    monitor = MoEMonitor().attach(trainer)
    trainer.train()
    tokens = sum(int(row["attention_mask"].sum()) for row in rows())
    assert monitor.load.counts.sum(-1).tolist() == [2 * tokens] * model.config.num_hidden_layers


def test_what_is_generated_between_steps_does_not_count(model, tmp_path):
    trainer = trainer_of(model, tmp_path, [Rollout()], logging_steps=5)
    monitor = MoEMonitor(drift=False).attach(trainer)
    trainer.train()
    tokens = sum(int(row["attention_mask"].sum()) for row in rows())
    assert monitor.load.counts.sum(-1).tolist() == [2 * tokens] * model.config.num_hidden_layers


class Rollout(TrainerCallback):
    """Generates before each step, in training mode, as rollouts may be."""

    def on_step_begin(self, args, state, control, *, model, **kwargs):
        model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=2, do_sample=False)
        assert model.training


def test_drift_is_the_share_of_experts_that_are_used_no_longer(model, tmp_path):
    batch = {key: torch.stack([row[key] for row in rows()]) for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        began = read_routing(model, batch)
    trainer = trainer_of(model, tmp_path, [Moved(model)], per_device_train_batch_size=8)
    MoEMonitor().attach(trainer)
    trainer.train()
    with torch.no_grad():
        now = read_routing(model, batch).experts[began.real]
    used = began.experts[began.real]
    gone = [one not in other for many, others in zip(used.flatten(0, 1).tolist(), now.flatten(0, 1).tolist(),
            strict=True) for one, other in [(expert, others) for expert in many]]  # fmt: skip
    drift = [log["moe/drift"] for log in logged(trainer)]
    assert drift == [0, pytest.approx(sum(gone) / len(gone))] and 0.3 < drift[1] < 1


class Moved(TrainerCallback):
    """After the first step the first layer's router uses the experts that it used least."""

    def __init__(self, model):
        self.router = model.get_decoder().layers[0].mlp.gate

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            with torch.no_grad():
                self.router.weight.neg_()


def test_nothing_is_left_on_the_model(model, tmp_path):
    trainer = trainer_of(model, tmp_path)
    MoEMonitor().attach(trainer)
    trainer.train()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(("report_to", "deaf"), [([], "callbacks before it"), (["wandb"], "wandb and callbacks")])
def test_a_callback_that_reporters_do_not_hear_says_so(model, tmp_path, report_to, deaf):
    before, behind = Reported(), Reported()
    trainer = trainer_of(model, tmp_path, [before, MoEMonitor(drift=False), behind])
    trainer.args.report_to = report_to
    with pytest.warns(UserWarning, match=rf"{deaf}.* will not have .*attach"):
        trainer.train()
    assert "moe/max_vio" in logged(trainer)[0] and "moe/drift" not in logged(trainer)[0]
    assert ["moe/max_vio" in one.heard[0] for one in (before, behind)] == [False, True]


def test_attached_again_it_is_attached_once_and_a_second_one_is_refused(model, tmp_path):
    monitor = MoEMonitor(drift=False)
    trainer = trainer_of(model, tmp_path, [Reported(), monitor])
    monitor.attach(trainer).attach(trainer)
    with pytest.raises(SettingError, match=r"one MoEMonitor .*remove_callback"):
        MoEMonitor().attach(trainer)
    trainer.train()  # warnings are errors
    assert len(logged(trainer)) == 2 and trainer.callback_handler.callbacks.count(monitor) == 1


def test_what_reads_the_model_between_steps_does_not_count(model, tmp_path):
    trainer = trainer_of(model, tmp_path, [Reading()], logging_steps=5)
    monitor = MoEMonitor(drift=False).attach(trainer)
    trainer.train()
    tokens = sum(int(row["attention_mask"].sum()) for row in rows())
    assert monitor.load.counts.sum(-1).tolist() == [2 * tokens] * model.config.num_hidden_layers


class Reading(TrainerCallback):
    """Looks at the model's routing after each step."""

    def on_step_end(self, args, state, control, *, model, **kwargs):
        read_routing(model, {"input_ids": torch.tensor([[5, 6, 7]])})


def test_what_was_last_logged_stays_and_is_printed(model, tmp_path):
    trainer = trainer_of(model, tmp_path)
    monitor = MoEMonitor(drift=False)
    assert repr(monitor) == "MoEMonitor(watches nothing yet)"
    monitor.attach(trainer)
    trainer.train()
    assert not monitor.load.counts.any(), "nothing was trained on since"
    said = {name.removeprefix("moe/"): value for name, value in logged(trainer)[-1].items() if "moe/" in name}
    assert monitor.logged.told() == said
    size, figure = "3 layers × 8 experts", f"max_vio {said['max_vio']:.4g}, "
    assert repr(monitor).startswith(f"MoEMonitor({size}; last logged: {figure}")
    assert repr(monitor.logged).startswith(f"Load({size}: {figure}")
    assert repr(monitor.load) == f"Load({size}: nothing seen yet)"


def test_what_is_no_trainer_is_refused(model):
    with pytest.raises(SettingError, match=r"a Trainer of transformers, or one of TRL's, got \w+; make it first"):
        MoEMonitor().attach(model)
    with pytest.raises(SettingError, match=r"MoEMonitor\(\*, by_layer=False, drift=True\)"):
        MoEMonitor(model)


def test_a_dense_model_is_refused(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    trainer = trainer_of(LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes)), tmp_path)
    MoEMonitor().attach(trainer)
    with pytest.raises(ModelError):
        trainer.train()


def test_a_frozen_model_is_said_to_be_one(model, tmp_path):
    trainer = trainer_of(model.requires_grad_(False), tmp_path)
    MoEMonitor().attach(trainer)
    with pytest.raises(SettingError, match=r"frozen, as load_moe_model .* say model.requires_grad_\(True\)"):
        trainer.train()
