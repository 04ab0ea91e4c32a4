"""Inside a vLLM worker: tell what is served, and put pathways into the routing of each step.

Nothing is hooked before the first request with a pathway asks what is served, so a server without such requests runs
as it would without this package. Names of vLLM 0.32 and 0.33; ``_batch_of`` knows both of its model runners.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from c3po_adaptive import ModelError

from .acting import Acting, Part, Step
from .admission import ServedModel, carried, decoded
from .identity import routers_identity

ROUTERS = ("CPURouter", "FusedTopKRouter", "GroupedTopKRouter", "FusedTopKBiasRouter", "CustomRoutingRouter")
"""Those whose choice is what the experts mix, and nothing beside it."""
WIDE = ("CPUUnquantizedExperts", "X86CPUUnquantizedExperts")
"""Kernels tried with more experts a token than the model's own."""
ALLOWED = "C3PO_EXPERTS"
"""The operator's word on how many experts a token may mix: more than the model's own make a step wider for all."""
GATES = ("gate", "router")


class Hooks:
    """What a worker holds for pathways.

    Attributes:
        acting: requests at hand that carry one.
    """

    def __init__(self, worker: Any) -> None:
        self.runner = worker.model_runner
        self.acting = Acting()
        self._step: Step | None = None
        self._running: Any = None
        self._batch: Any = None
        self._layers = list(_runners(self.runner.get_model()))
        self._problems = [*_of_configuration(worker.vllm_config), *_of_layers(self._layers)]
        if not self._problems:
            self._install(self._layers)

    def served(self) -> ServedModel:
        """What this worker tells of itself, read from its weights as they are now."""
        return _served(self.runner.get_model(), self._layers, list(self._problems))

    def _install(self, found: list[tuple[str, Any]]) -> None:
        for _, layer in found:
            layer.router._compute_routing = self._routing(layer)
        self.runner.execute_model = self._executing(self.runner.execute_model)
        if hasattr(self.runner, "prepare_inputs"):
            self.runner.prepare_inputs = self._preparing(self.runner.prepare_inputs)

    def _executing(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(execute)
        def run(scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
            self._take(scheduler_output)
            self._running, self._step, self._batch = scheduler_output, None, None
            try:
                output = execute(scheduler_output, *args, **kwargs)
            finally:
                self._running = None
            self._finish(scheduler_output)
            return output

        return run

    def _take(self, scheduler_output: Any) -> None:
        for name in scheduler_output.finished_req_ids:
            self.acting.end(name)
        for new in scheduler_output.scheduled_new_reqs:
            if named := carried(getattr(new.sampling_params, "extra_args", None)):
                length = getattr(new, "prompt_len", None) or len(new.prompt_token_ids)
                self.acting.begin(new.req_id, decoded(named), length)

    def _finish(self, scheduler_output: Any) -> None:
        if self._step is not None:
            self._step.finish()
        elif set(scheduler_output.num_scheduled_tokens) & set(self.acting.guests) and self._batch is None:
            raise ModelError(
                "Expected the model to ask for its routing in a step with pathways, but no MoE layer did: none was "
                "applied. Start the server with --enforce-eager."
            )

    def _preparing(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(prepare)
        def run(*args: Any, **kwargs: Any) -> Any:
            self._batch = prepare(*args, **kwargs)
            self._begin(_batch_of_v2(self._batch))
            return self._batch

        return run

    def _begin(self, parts: list[Part]) -> None:
        self._step = self.acting.step(parts)

    def _routing(self, layer: Any) -> Callable[..., tuple[Tensor, Tensor]]:
        compute, number, scale = layer.router._compute_routing, layer.layer_id, layer.routed_scaling_factor

        @wraps(compute)
        def route(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            weights, index = compute(*args, **kwargs)
            if self._running is None or not self.acting.guests:
                return weights, index
            if self._batch is None:
                self._batch = self.runner.input_batch
                self._begin(_batch_of_v1(self._batch, self._running.num_scheduled_tokens))
            if self._step is None:
                return weights, index
            index, weights = self._step.route(number, index, weights, scale)
            return weights, index

        return route


def _batch_of_v1(batch: Any, scheduled: dict[str, int]) -> list[Part]:
    """Requests of a step in their rows' order, as the older model runner holds them."""
    return [
        (name, int(batch.num_computed_tokens_cpu[i]), scheduled[name])
        for i, name in enumerate(batch.req_ids[: batch.num_reqs])
    ]


def _batch_of_v2(batch: Any) -> list[Part]:
    """Likewise, as the newer one does."""
    firsts, counts = batch.num_computed_tokens_np.tolist(), batch.num_scheduled_tokens.tolist()
    return list(zip(batch.req_ids, firsts, counts, strict=True))


def _runners(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """vLLM's MoE layers by name, in order."""
    from vllm.model_executor.layers.fused_moe.runner.moe_runner import MoERunner

    found = [(name, module) for name, module in model.named_modules() if isinstance(module, MoERunner)]
    yield from sorted(found, key=lambda pair: pair[1].layer_id)


def _served(model: nn.Module, found: list[tuple[str, Any]], problems: list[str]) -> ServedModel:
    layers = tuple(layer.layer_id for _, layer in found)
    experts = {layer.router.global_num_experts for _, layer in found if hasattr(layer.router, "global_num_experts")}
    used = {layer.router.top_k for _, layer in found if hasattr(layer.router, "top_k")}
    if len(experts) > 1 or len(used) > 1 or len(set(layers)) < len(layers):
        problems.append(f"MoE layers of {sorted(experts)} experts, {sorted(used)} a token")
    if any(p.dtype == torch.float16 for p in model.parameters()):
        problems.append("float16 rounds routers so that nobody can tell whose they are; start it with --dtype bfloat16")
    try:
        routers = routers_identity(_router(model, name, layer) for name, layer in found)
    except ModelError as error:
        routers = ""
        problems.append(str(error))
    top_k, n_experts = max(used, default=0), max(experts, default=0)
    widest = _widest(top_k, n_experts, problems)
    if not all(_kernel(layer) in WIDE and layer.router.capture_fn is None for _, layer in found):
        widest = top_k
    return ServedModel(layers, n_experts, top_k, routers, widest, tuple(problems))


def _widest(top_k: int, n_experts: int, problems: list[str]) -> int:
    """How many experts a token may mix: the model's own number, unless the operator allows more."""
    allowed = os.environ.get(ALLOWED) or str(top_k)
    if not (allowed.isascii() and allowed.isdecimal()) or not top_k <= int(allowed) <= n_experts:
        problems.append(f"{ALLOWED} should be a number from {top_k} to {n_experts}, and is {allowed!r}")
        return top_k
    return int(allowed)


def _router(model: nn.Module, name: str, layer: Any) -> Tensor:
    """``[E, H]``, read from the gate's own answers where the engine has packed its weights away."""
    parent = model.get_submodule(name.rpartition(".")[0])
    gate = next((g for g in (getattr(parent, n, None) for n in GATES) if isinstance(g, nn.Module)), None)
    if gate is None or getattr(gate, "bias", None) is not None:
        raise ModelError(f"the router of {name} cannot be read, so whose pathway it is cannot be told")
    weight: Any = gate.weight
    if weight.ndim == 2 and len(weight) == layer.router.global_num_experts:
        return weight  # type: ignore[no-any-return]
    width = layer.moe_config.hidden_dim
    device = next(model.parameters()).device
    answers = gate(torch.eye(width, dtype=weight.dtype, device=device))
    logits: Tensor = answers[0] if isinstance(answers, tuple) else answers
    return logits.T


def _kernel(layer: Any) -> str:
    kernel = getattr(layer.routed_experts.quant_method, "moe_kernel", None)
    return type(getattr(kernel, "fused_experts", None)).__name__


def _of_configuration(config: Any) -> list[str]:
    """Ways of running in which rows of a layer are not the tokens of the batch, or Python is not asked."""
    parallel, compilation = config.parallel_config, config.compilation_config
    checks = {
        "torch.compile and graphs do not ask the hook; start it with --enforce-eager": (
            int(compilation.mode or 0) != 0 or getattr(compilation.cudagraph_mode, "name", "NONE") != "NONE"
        ),
        "expert parallelism renames and spreads experts; start it without --enable-expert-parallel": (
            parallel.enable_expert_parallel or parallel.enable_eplb
        ),
        "tensor, pipeline, data or context parallelism is not tried; start one process for the whole model": (
            max(
                parallel.tensor_parallel_size,
                parallel.pipeline_parallel_size,
                parallel.data_parallel_size,
                parallel.prefill_context_parallel_size,
                parallel.decode_context_parallel_size,
            )
            > 1
        ),
        "batches are split (--enable-dbo); start it without": parallel.use_ubatching,
        "speculative decoding runs tokens that may not count; start it without": config.speculative_config is not None,
        "a KV connector may not know the salt of its prefix cache; start it without --kv-transfer-config": (
            config.kv_transfer_config is not None
        ),
        "its last layers see a part of the prompt's tokens; start it without --kv-sharing-fast-prefill": (
            config.cache_config.kv_sharing_fast_prefill
        ),
    }
    return [problem for problem, holds in checks.items() if holds]


def _of_layers(found: list[tuple[str, Any]]) -> list[str]:
    """MoE layers whose experts do not get their routing from a router that can be asked."""
    if not found:
        return ["the model has no MoE layer of vLLM's"]
    problems = []
    for name, layer in found:
        if layer.routed_experts.quant_method.is_monolithic:
            problems.append(f"a fused kernel routes inside {name}; choose another with --moe-backend")
        if type(layer.router).__name__ not in ROUTERS:
            problems.append(f"{name} routes by {type(layer.router).__name__}, which no pathway is written for")
        if getattr(layer.routed_experts, "apply_router_weight_on_input", False):
            problems.append(f"{name} multiplies inputs, not outputs, with routing weights")
        if getattr(layer.moe_config, "num_fused_shared_experts", 0):
            problems.append(f"{name} has shared experts among the routed ones")
    return problems
