"""What a worker refuses, and how it reads a step of either model runner, on stand-ins: no vLLM is needed for it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from c3po_vllm.identity import routers_identity
from c3po_vllm.worker import Hooks, _batch_of_v1, _batch_of_v2, _of_configuration, _of_layers, _served
from torch import nn


def configuration(**changes):
    """One process, eager; a change is ``part__name=value``."""
    parts = {
        "compilation_config": {"mode": 0, "cudagraph_mode": SimpleNamespace(name="NONE")},
        "parallel_config": {
            "enable_expert_parallel": False, "enable_eplb": False, "use_ubatching": False, "tensor_parallel_size": 1,
            "pipeline_parallel_size": 1, "data_parallel_size": 1, "prefill_context_parallel_size": 1,
            "decode_context_parallel_size": 1,
        },
        "cache_config": {"kv_sharing_fast_prefill": False},
    }  # fmt: skip
    whole = {"speculative_config": None, "kv_transfer_config": None}
    for name, value in changes.items():
        part, _, key = name.partition("__")
        (parts[part] if key else whole)[key or part] = value
    return SimpleNamespace(**whole, **{name: SimpleNamespace(**values) for name, values in parts.items()})


def test_one_eager_process_is_served():
    assert _of_configuration(configuration()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"compilation_config__mode": 3}, "--enforce-eager"),
        ({"compilation_config__cudagraph_mode": SimpleNamespace(name="PIECEWISE")}, "--enforce-eager"),
        ({"parallel_config__enable_expert_parallel": True}, "--enable-expert-parallel"),
        ({"parallel_config__enable_eplb": True}, "--enable-expert-parallel"),
        *(
            ({f"parallel_config__{kind}_parallel_size": 2}, "one process for the whole model")
            for kind in ("tensor", "pipeline", "data", "prefill_context", "decode_context")
        ),
        ({"parallel_config__use_ubatching": True}, "--enable-dbo"),
        ({"speculative_config": object()}, "speculative"),
        ({"kv_transfer_config": object()}, "--kv-transfer-config"),
        ({"cache_config__kv_sharing_fast_prefill": True}, "--kv-sharing-fast-prefill"),
    ],
)
def test_ways_of_running_that_pathways_do_not_reach_are_refused(changed, said):
    (problem,) = _of_configuration(configuration(**changed))
    assert said in problem


class FusedTopKRouter(SimpleNamespace):
    """By the name of one that is known."""


class Block(nn.Module):
    """As vLLM's: a gate beside the experts."""

    def __init__(self, weight, bias=False):
        super().__init__()
        self.gate = nn.Linear(weight.shape[1], weight.shape[0], bias=bias, dtype=weight.dtype)
        self.gate.weight.data.copy_(weight)
        self.experts = nn.Identity()


def layer(number=0, monolithic=False, kernel="CPUUnquantizedExperts", router=FusedTopKRouter, **options):
    """Of four experts, two a token."""
    method = SimpleNamespace(is_monolithic=monolithic, moe_kernel=SimpleNamespace(fused_experts=type(kernel, (), {})()))
    experts = SimpleNamespace(quant_method=method, apply_router_weight_on_input=options.get("on_input", False))
    shared = SimpleNamespace(num_fused_shared_experts=options.get("shared", 0), hidden_dim=3)
    return SimpleNamespace(
        layer_id=number, routed_experts=experts, moe_config=shared,
        router=router(global_num_experts=options.get("experts", 4), top_k=2, capture_fn=None),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"monolithic": True}, "a fused kernel routes inside a; choose another with --moe-backend"),
        ({"router": type("NovelRouter", (SimpleNamespace,), {})}, "NovelRouter, which no pathway is written for"),
        ({"on_input": True}, "multiplies inputs"),
        ({"shared": 1}, "shared experts among the routed ones"),
    ],
)
def test_layers_that_cannot_be_asked_are_refused(options, said):
    assert _of_layers([("a", layer())]) == []
    (problem,) = _of_layers([("a", layer(**options))])
    assert said in problem


def test_a_model_without_experts_is_refused():
    assert _of_layers([]) == ["the model has no MoE layer of vLLM's"]


WEIGHTS = torch.arange(12.0).view(4, 3)


def told(*layers, weight=WEIGHTS, **options):
    """Of a model whose blocks have one router."""
    model = nn.ModuleList(Block(weight, **options) for _ in layers)
    return _served(model, [(f"{i}.experts", one) for i, one in enumerate(layers)], [])


def test_a_worker_tells_what_it_serves():
    served = told(layer(1), layer(2))
    assert (served.layers, served.n_experts, served.top_k, served.problems) == ((1, 2), 4, 2, ())
    assert served.routers == routers_identity([WEIGHTS, WEIGHTS])
    assert served.widest == served.top_k


@pytest.mark.parametrize(("allowed", "widest"), [("", 2), ("2", 2), ("3", 3), ("4", 4)])
def test_more_experts_a_token_are_the_operators_to_allow(monkeypatch, allowed, widest):
    monkeypatch.setenv("C3PO_EXPERTS", allowed)
    assert told(layer(1)).widest == widest
    assert told(layer(kernel="TritonExperts")).widest == 2, "its kernels mix no more"


@pytest.mark.parametrize("allowed", ["1", "5", "-3", "many", "3.5", "٣"])
def test_what_the_operator_cannot_allow_is_a_problem(monkeypatch, allowed):
    monkeypatch.setenv("C3PO_EXPERTS", allowed)
    served = told(layer(1))
    assert any("C3PO_EXPERTS should be a number from 2 to 4" in problem for problem in served.problems)
    assert served.widest == 2


@pytest.mark.parametrize(
    ("layers", "options", "said"),
    [
        ((layer(0), layer(1, experts=8)), {}, r"4, 8"),
        ((layer(0), layer(0)), {}, "MoE layers of"),
        ((layer(),), {"weight": WEIGHTS.half()}, "float16"),
        ((layer(),), {"bias": True}, "cannot be read"),
    ],
    ids=["experts", "numbers", "float16", "bias"],
)
def test_models_that_cannot_be_told_apart_are_refused(layers, options, said):
    served = told(*layers, **options)
    assert any(said in problem for problem in served.problems)


def test_a_router_that_the_engine_packed_is_read_from_its_answers():
    model = nn.ModuleList([Block(WEIGHTS), nn.Linear(3, 3)])
    packed = model[0].gate

    class Packed(nn.Module):
        weight = torch.zeros(1)

        def forward(self, x):
            return packed(x), None

    model[0].gate = Packed()
    assert _served(model, [("0.experts", layer())], []).routers == routers_identity([WEIGHTS])


def test_a_worker_tells_of_its_weights_as_they_are_now(monkeypatch):
    model, hooks = nn.ModuleList([Block(WEIGHTS)]), Hooks.__new__(Hooks)
    hooks.runner = SimpleNamespace(get_model=lambda: model)
    hooks._layers, hooks._problems = [("0.experts", layer())], []
    before = hooks.served()
    model[0].gate.weight.data.copy_(WEIGHTS.flip(0))  # as vLLM loads weights: no version counts it
    assert before.routers != hooks.served().routers == routers_identity([WEIGHTS.flip(0)])
    hooks._problems = ["graphs"]
    assert hooks.served().problems == hooks.served().problems == ("graphs",)


def test_both_model_runners_steps_are_read_alike():
    names, first, counts = ["a", "b"], np.array([4, 0]), np.array([1, 3])
    padded = SimpleNamespace(req_ids=[*names, None], num_reqs=2, num_computed_tokens_cpu=np.array([4, 0, 99]))
    newer = SimpleNamespace(req_ids=names, num_computed_tokens_np=first, num_scheduled_tokens=counts)
    steps = [_batch_of_v1(padded, {"b": 3, "a": 1}), _batch_of_v2(newer)]
    assert steps == [[("a", 4, 1), ("b", 0, 3)]] * 2
