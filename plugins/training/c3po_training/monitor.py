"""How a model routes while it is trained, beside what its trainer logs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from c3po_adaptive import ModelError, SeenRouting, SettingError, read_routing, watching
from c3po_adaptive.errors import checked_call

from .load import Load

PROBE = 8
"""Sequences of the first batch whose routing is held against that of the model as it began."""


class MoEMonitor(TrainerCallback):
    """Logs how a model of transformers routes while ``Trainer``, or one of TRL's trainers, trains it::

        trainer = Trainer(model=model, …)
        monitor = MoEMonitor().attach(trainer)
        trainer.train()

    Beside the loss, so whenever the trainer logs and wherever it logs to, of the tokens trained on since it last did:

    - ``moe/max_vio``, ``moe/min_vio``, ``moe/avg_vio``: how far the most and the least used expert of a layer, and its
      experts on average, are from an even load, over that load; averaged over layers (MaxVio of arXiv 2408.15664; 0 is
      even, -1 of ``min_vio`` an expert that nobody uses).
    - ``moe/dead_experts``: how many experts, of all layers, no token used.
    - ``moe/entropy``: of what routers make of experts, the mean over tokens and layers, in nats.
    - ``moe/drift``: of the experts that tokens of the first batch used as the model began, the share that they no
      longer use; each time for one forward of at most eight sequences, without gradients.

    Padding does not count where ``attention_mask [B, T]`` tells it, nor do evaluation, generation, what reads the model
    between steps, and what gradient checkpointing runs again. Of several processes the load is that of all.
    Beside ``ReplayedTrainer`` it is the load of the routes that are replayed; the entropy stays the router's own.

    Args:
        by_layer: log ``moe/max_vio/LAYER`` and ``moe/dead_experts/LAYER``, too, for each MoE layer, by its index in the
            decoder.
        drift: whether to ask the model as it is now, each time.

    Attributes:
        load: of the experts, since the last log; None before training.
        logged: what the last log was made of; None before there is one.
    """

    @checked_call
    def __init__(self, *, by_layer: bool = False, drift: bool = True) -> None:
        self.by_layer, self.drift = by_layer, drift
        self.load: Load | None = None
        self.logged: Load | None = None
        self._said: dict[str, float] = {}
        self._first = self._counting = self._asking = False
        self._open, self._thread = ExitStack(), get_ident()
        self._real: Tensor | None = None
        self._probe: dict[str, Tensor] = {}
        self._began: Tensor | None = None

    def __repr__(self) -> str:
        if self.load is None:
            return "MoEMonitor(watches nothing yet)"
        said = ", ".join(f"{name} {value:.4g}" for name, value in self._said.items() if "/" not in name)
        size = f"{len(self.load.layers)} layers × {self.load.experts} experts"
        return f"MoEMonitor({size}; last logged: {said or 'nothing yet'})"

    def attach(self, trainer: Trainer) -> MoEMonitor:
        """Watch a trainer, before those who report what it logs.

        Raises:
            SettingError: no trainer; or another monitor watches it, which would log under the same names.
        """
        if not isinstance(trainer, Trainer):
            raise SettingError(
                f"Expected a Trainer of transformers, or one of TRL's, got {type(trainer).__name__}; make it first: "
                "MoEMonitor().attach(trainer)."
            )
        callbacks = trainer.callback_handler.callbacks
        if any(isinstance(one, MoEMonitor) and one is not self for one in callbacks):
            raise SettingError(
                "Expected one MoEMonitor of a trainer, got a second, which would log under the same names; keep the "
                "first, or take it away: trainer.remove_callback(MoEMonitor)."
            )
        callbacks[:] = [self, *(one for one in callbacks if one is not self)]
        self._first = True
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to watch.

        Raises:
            ModelError: the model is dense, or its routing cannot be reached.
            SettingError: all of it is frozen, as ``load_moe_model`` and ``Optimizer`` leave it.
        """
        if not self._first:
            deaf = ", ".join(args.report_to) + " and callbacks before it" if args.report_to else "callbacks before it"
            warnings.warn(
                f"MoEMonitor was given as a callback, so {deaf} will not have what it logs, only the trainer's own log "
                "and callbacks behind it; say MoEMonitor().attach(trainer) instead.",
                stacklevel=2,
            )
        self.close()
        model: nn.Module = kwargs["model"]
        if not any(p.requires_grad for p in model.parameters()):
            raise SettingError(
                "Expected a model with parameters to train, got one that is frozen, as load_moe_model and Optimizer "
                "leave it; say model.requires_grad_(True) before the trainer is made."
            )
        self.logged, self._said, self._probe, self._began = None, {}, {}, None
        layers, experts = self._open.enter_context(watching(model, self._see))
        self.load, self._thread = Load(layers, experts), get_ident()
        called = model.register_forward_pre_hook(self._called, with_kwargs=True)
        self._open.callback(called.remove)
        left = model.register_forward_hook(self._left, always_call=True)
        self._open.callback(left.remove)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say what was seen since it was last said, in a log of the loss."""
        logs: dict[str, Any] = kwargs["logs"]
        if self.load is None or "loss" not in logs:
            return
        if not (found := self.load.told(by_layer=self.by_layer)):
            warnings.warn(
                "MoEMonitor saw no token since it last said so, and says nothing: torch.compile may leave hooks out.",
                stacklevel=2,
            )
            return
        if self._began is not None:
            found["drift"] = _drift(self._began, self._experts(kwargs["model"]))
        self.logged, self.load, self._said = self.load, Load(self.load.layers, self.load.experts), found
        said = {f"moe/{name}": value for name, value in found.items()}
        logs.update(said)
        if state.log_history:
            state.log_history[-1].update(said)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the model as it was."""
        self.close()

    def close(self) -> None:
        """Stop to watch, as after training that an error ended."""
        try:
            self._open.close()
        except ModelError as error:  # hooks that were left out are no reason to lose what was trained
            warnings.warn(f"MoEMonitor did not see all layers: {error}", stacklevel=2)

    def _called(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Note which tokens of a batch are real; and, of the first one, how they are routed."""
        if get_ident() != self._thread:  # another thread asks the model meanwhile
            return
        self._counting = model.training and torch.is_grad_enabled()  # not where a rollout is generated, in any mode
        if not self._counting:
            return
        mask, ids = kwargs.get("attention_mask"), kwargs.get("input_ids")
        mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
        self._real = None if mask is None else mask.bool()
        if self.drift and self._began is None and isinstance(ids, Tensor):
            parts = {"input_ids": ids} if mask is None else {"input_ids": ids, "attention_mask": mask}
            self._probe = {name: part[:PROBE].clone() for name, part in parts.items()}
            self._began = self._experts(model)

    def _left(self, *args: Any) -> None:
        """Count nothing until the next call: others may read the model's layers in between."""
        self._counting &= get_ident() != self._thread

    def _see(self, routing: SeenRouting) -> None:
        if self.load is not None and self._counting and not self._asking and not routing.again:
            self.load.add(routing, self._real)

    def _experts(self, model: nn.Module) -> Tensor:
        """``[B, T, L, k]`` experts of each token of the first batch, without dropout; -1 in padding."""
        self._asking = True
        try:
            with torch.no_grad(), _evaluating(model):
                return read_routing(model, self._probe).experts
        finally:
            self._asking = False


def _drift(began: Tensor, now: Tensor) -> float:
    """The share of experts ``[B, T, L, k]`` that are used no longer."""
    kept = (now[..., :, None] == began[..., None, :]).any(-2)
    return 1 - float(kept[began >= 0].double().mean())


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation, and each in its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
