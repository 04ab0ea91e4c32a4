"""Replay in training: the recorded run's logits, a hand-written forward's gradients; what does not fit is refused."""

import copy
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from models.by_hand import FAMILIES, chosen_by_hand, model_of
from models.pictured import QUESTIONS, read, seeing
from routing.naive import shared_model

import c3po_adaptive
from c3po_adaptive.errors import ModelError, SettingError, ShapeError
from c3po_adaptive.models.replaying import sites_of
from c3po_adaptive.models.traced import record
from c3po_adaptive.routing.intercept import intercepted
from c3po_adaptive.testing import tiny_moe

replaying = c3po_adaptive.replaying
TEXT = "the boat floats"
LENGTHS = (11, 7)


def batch(side="right"):
    """Two sequences of other lengths, padded, with the labels that padding has none of."""
    ids = torch.zeros(2, max(LENGTHS), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, length in enumerate(LENGTHS):
        where = slice(0, length) if side == "right" else slice(max(LENGTHS) - length, None)
        ids[i, where] = torch.arange(5 + 17 * i, 5 + 17 * i + length)
        mask[i, where] = 1
    first = mask.cumsum(1) < 2  # which is predicted from padding on the left
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": ids.masked_fill(first, -100).masked_fill(mask == 0, -100),
        "use_cache": False,
    }


def recorded(model, inputs):
    """Logits of a call, and experts and weights ``[B, T, L, k]`` that it used."""
    sites, found = sites_of(model), {}
    with torch.no_grad(), intercepted(sites, lambda i, index, weights: found.update({i: (index, weights.float())})):
        logits = model(**inputs).logits
    size = inputs["input_ids"].shape
    return logits, *(
        torch.stack([found[i][j] for i in range(len(sites))], 1).view(*size, len(sites), -1) for j in (0, 1)
    )


def others(model, inputs, live=True):
    """Experts beside those that the model would take, in the same groups; with some tokens left to themselves."""
    experts = recorded(model, inputs)[1] ^ 1
    if live:
        experts[0, 3], experts[1, :, -1] = -1, -1
    experts[inputs["attention_mask"] == 0] = -1
    return experts


def step(model, inputs):
    """Loss, logits and gradients of one step."""
    model.zero_grad()
    out = model(**inputs)
    out.loss.backward()
    return out.logits.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def assert_same(one, other, atol=1e-5):
    torch.testing.assert_close(one[0], other[0], atol=atol, rtol=0)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(
            gradient, other[1][name], atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
        )


def refused(error, said, model, *routes, inputs=None):
    """A block of these routes is refused: when it is entered, or when a batch is run in it."""
    run = (lambda: None) if inputs is None else partial(step, model, inputs)
    with pytest.raises(error, match=said), replaying(model, *routes):
        run()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ids_alone_give_logits_and_gradients_of_a_forward_by_hand(family, side):
    model, inputs = model_of(family).train(), batch(side)
    experts = others(model, inputs)
    plain = step(model, inputs)
    with chosen_by_hand(model, family, experts):
        wanted = step(model, inputs)
    assert (wanted[0] - plain[0]).abs().max() > 1e-2, "other experts"
    with replaying(model, experts):
        assert_same(step(model, inputs), wanted)
    assert all(site.router._forward_pre_hooks == {} == site.router._forward_hooks for site in sites_of(model))
    assert_same(step(model, inputs), plain)
    for site in sites_of(model):
        assert any(p.grad is not None and p.grad.any() for p in site.router.parameters()), "gates are live"


@pytest.mark.parametrize("family", [*FAMILIES, "phimoe"])
def test_ids_and_weights_give_the_recorded_run_back(family):
    """Of a model with other routers: whatever this model's would have chosen."""
    model = (tiny_moe(family).requires_grad_(True) if family == "phimoe" else model_of(family)).train()
    rollout, inputs = copy.deepcopy(model).eval(), batch("left")
    with torch.no_grad():
        for site in sites_of(rollout):
            for parameter in site.router.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    logits, experts, weights = recorded(rollout, inputs)
    real = inputs["attention_mask"].bool()
    assert (model(**inputs).logits - logits)[real].abs().max() > 1e-2, "routed otherwise by itself"
    experts[~real] = -1
    with replaying(model, experts, weights):
        got = step(model, inputs)
    torch.testing.assert_close(got[0][real], logits[real], atol=1e-5, rtol=0)
    for site in sites_of(model):
        assert not any(p.grad is not None and p.grad.any() for p in site.router.parameters()), "weights are given"


def test_ids_alone_give_back_a_run_that_chose_by_another_bias():
    """Which experts DeepSeek-V3's routers take depends on a bias that their weights do not have."""
    model, inputs = model_of("deepseek_v3").train(), batch()
    rollout = copy.deepcopy(model).eval()
    for site in sites_of(rollout):
        site.router.e_score_correction_bias += torch.randn(8, generator=torch.Generator().manual_seed(1))
    logits, experts, _ = recorded(rollout, inputs)
    real = inputs["attention_mask"].bool()
    assert (recorded(model, inputs)[0] - logits)[real].abs().max() > 1e-2
    with replaying(model, experts):
        torch.testing.assert_close(model(**inputs).logits[real], logits[real], atol=1e-5, rtol=0)


def test_given_weights_have_gradients_and_the_router_none():
    model, inputs = model_of("olmoe").train(), batch()
    _, experts, weights = recorded(model, inputs)
    weights.requires_grad_()
    with replaying(model, experts, weights):
        _, gradients = step(model, inputs)
    assert weights.grad.abs().sum((0, 1, 3)).min() > 0, "in each layer"
    routers = [name for name in gradients if "gate.weight" in name]
    assert not any(gradients[name].any() for name in routers) and gradients["lm_head.weight"].any()


def test_more_experts_than_the_model_mixes_may_be_given_with_weights():
    model, inputs = model_of("olmoe").train(), batch()
    experts = torch.arange(3).expand(*inputs["input_ids"].shape, 3, 3).clone()
    experts[0, 0] = -1
    plain = step(model, inputs)[0]
    with replaying(model, experts, torch.full(experts.shape, 0.2)):
        got = step(model, inputs)[0]
    torch.testing.assert_close(got[0, 0], plain[0, 0], atol=1e-5, rtol=0)
    assert (got - plain)[:, 1:].abs().max() > 1e-2
    refused(ShapeError, r"2 experts a token.*got 3; give weights", model, experts)


def checkpointed(model, reentrant):
    """Called otherwise from transformers 5.24 on."""
    new = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    new({"use_reentrant": reentrant})


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("weighed", [False, True])
def test_gradient_checkpointing_runs_again_along_the_same_routes(reentrant, weighed):
    model, inputs = model_of("qwen3_moe").train(), batch()
    experts = others(model, inputs)
    weights = torch.full(experts.shape, 0.4) if weighed else None
    with replaying(model, experts, weights):
        wanted = step(model, inputs)
    checkpointed(model, reentrant)
    model.enable_input_require_grads()
    calls = []
    handle = sites_of(model)[0].experts.register_forward_pre_hook(lambda *_: calls.append(1))
    with replaying(model, experts, weights):
        assert_same(step(model, inputs), wanted)
    handle.remove()
    assert len(calls) == 2, "run again in backward"
    with (
        pytest.raises(ModelError, match=r"Expected backward\(\) inside the block.*layers \[0, 1, 2\] again"),
        replaying(model, experts, weights),
    ):
        loss = model(**inputs).loss
    del loss
    with replaying(model, experts, weights), torch.no_grad():
        model(**inputs)


def embedded(model, inputs):
    """The same call by embeddings."""
    return {k: v for k, v in inputs.items() if k != "input_ids"} | {
        "inputs_embeds": model.get_input_embeddings()(inputs["input_ids"])
    }


@pytest.fixture(params=["padded", "arrays", "traces"])
def routes_of(request):
    """One batch's routes, in each of the forms that they may have."""

    def of(model, inputs):
        if request.param == "traces":
            return traces_of(model, inputs)
        experts, real = others(model, inputs, live=False), inputs["attention_mask"].bool()
        return experts if request.param == "padded" else [e[m] for e, m in zip(experts, real, strict=True)]

    return of


@pytest.mark.parametrize("call", [lambda model, inputs: inputs, embedded], ids=["ids", "embeddings"])
def test_a_block_is_for_one_batch_which_may_be_run_again(routes_of, call):
    """Another of the same mask, as gradient accumulation brings it, has other routes: it is refused, also in the same
    memory."""
    model, inputs = model_of("olmoe").train(), batch()
    routes = routes_of(model, inputs)
    with replaying(model, routes):
        one, two = (model(**call(model, inputs)) for _ in range(2))
        (one.loss + two.loss).backward()
    assert torch.equal(one.logits, two.logits)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    elsewhere = {"position_ids": torch.arange(1, 1 + ids.shape[1])[None]}
    for changes in ({"input_ids": ids.flip(1)}, {"attention_mask": torch.ones_like(mask)}, elsewhere):
        with replaying(model, routes):
            model(**call(model, inputs))
            with pytest.raises(SettingError, match=r"one batch in a block of replaying, got another.*a block for each"):
                model(**call(model, inputs | changes))
    with replaying(model, routes):
        model(**inputs)
        ids += 1
        with pytest.raises(SettingError, match="one batch in a block"):
            model(**inputs)


def test_a_batch_is_told_by_its_values():
    """Not by dtype, nor by a mask of a kind that does not say where padding is."""
    model, inputs = model_of("olmoe").train(), batch("left")
    ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
    both = (mask[:, None, None, :] & torch.ones_like(mask[0].outer(mask[0])).tril()).float().log().clamp_min(-1e9)
    with replaying(model, others(model, inputs)):
        for changes in ({}, {"input_ids": ids.int()}, {"attention_mask": both}):
            model(**inputs | changes)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of NumPy, in GLM-4V's processor
@pytest.mark.parametrize("family", ["qwen3_vl_moe", "glm4v_moe"])
def test_who_reads_images_may_be_trained_between_two_runs_of_a_batch(family):
    """The decoder is given embeddings, which a step changes; another batch is told by its ids, or its pictures."""
    routed = seeing(family)
    model = routed.model.requires_grad_(True).train()
    inputs = read(routed, QUESTIONS[0])
    experts = c3po_adaptive.read_routing(model, inputs).experts ^ 1
    optimizer, last = (
        torch.optim.SGD(model.parameters(), lr=0.1),
        torch.arange(experts.shape[1]) == experts.shape[1] - 1,
    )
    changed = ({"input_ids": inputs["input_ids"] ^ last.long()}, {"pixel_values": -inputs["pixel_values"]})
    with replaying(model, experts):
        model(**inputs).logits.sum().backward()
        optimizer.step()
        model(**inputs)
        for changes in changed:
            with pytest.raises(SettingError, match="one batch in a block"):
                model(**inputs | changes)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_routes_padded_on_the_other_side_are_refused(side, last):
    """As by a tokenizer of the trainer that pads otherwise than the engine's; also where the last token has none."""
    model, inputs = model_of("olmoe").train(), batch(side)
    other = "left" if side == "right" else "right"
    recorded_so = batch(other)
    experts = others(model, recorded_so, live=False)
    if not last:
        experts[range(2), recorded_so["attention_mask"].cumsum(1).argmax(1)] = -1
    refused(
        ShapeError, rf"on the {side}, got them padded on the {other}: -1 at \d of its", model, experts, inputs=inputs
    )


@pytest.mark.parametrize(("side", "by"), [("left", -1), ("right", 1)])
def test_shifted_routes_are_refused_as_that_and_fillers_in_the_padding_are_not(side, by):
    model, inputs = model_of("olmoe").train(), batch(side)
    experts, mask = others(model, inputs, live=False), inputs["attention_mask"].bool()
    refused(ShapeError, f"on the {side}, got them shifted by {by}: -1 at 1", model, experts.roll(by, 1), inputs=inputs)
    experts[0, 3], experts[1, mask[1].nonzero()[2]] = -1, -1  # tokens that route themselves
    refused(ShapeError, "in another order, or of another batch", model, experts.flip(0), inputs=inputs)
    with replaying(model, experts):
        wanted = step(model, inputs)
    experts[~mask] = torch.arange(2)  # as engines may leave them there
    with replaying(model, experts):
        torch.testing.assert_close(step(model, inputs)[0][mask], wanted[0][mask], atol=1e-5, rtol=0)


def traces_of(model, inputs, **changes):
    """One for each sequence, of experts beside its own."""
    experts, found = others(model, inputs, live=False), []
    like = record(shared_model("olmoe"), TEXT)
    for ids, mask, part in zip(inputs["input_ids"], inputs["attention_mask"].bool(), experts, strict=True):
        trace = replace(like, tokens=ids[mask], experts=part[mask], weights=None, model="", **changes)
        found.append(trace)
    return found


@pytest.mark.parametrize("side", ["left", "right"])
def test_traces_and_arrays_of_sequences_are_laid_beside_their_tokens(side):
    model, inputs = model_of("olmoe").train(), batch(side)
    experts = others(model, inputs, live=False)
    last = inputs["attention_mask"].cumsum(1).argmax(1)
    experts[range(2), last] = -1
    with replaying(model, experts):
        wanted = step(model, inputs)
    real = inputs["attention_mask"].bool()
    arrays = [part[mask][:-1].to(torch.uint8) for part, mask in zip(experts, real, strict=True)]
    with replaying(model, arrays):
        assert_same(step(model, inputs), wanted)
    traces = [replace(t, experts=torch.cat([t.experts[:-1], t.experts[-1:] * 0 - 1])) for t in traces_of(model, inputs)]
    with replaying(model, traces):
        assert_same(step(model, inputs), wanted)
    others_tokens = [replace(t, tokens=t.tokens + 1) for t in traces]
    refused(SettingError, "tokens of sequence 0, got those of others", model, others_tokens, inputs=inputs)
    refused(ShapeError, "11 tokens of sequence 0, or of all but the last, got 7", model, traces[::-1], inputs=inputs)
    refused(ShapeError, "2 sequences, got 1", model, traces[0], inputs=inputs)


def test_a_recorded_trace_is_replayed_with_its_weights_and_only_on_its_model():
    routed = shared_model("olmoe")
    trace = record(routed, TEXT)
    wanted = routed.model(input_ids=trace.tokens[None], use_cache=False).logits
    with replaying(routed, trace):
        torch.testing.assert_close(routed.model(trace.tokens[None], use_cache=False).logits, wanted, atol=1e-5, rtol=0)
    trained = copy.deepcopy(routed.model)
    with torch.no_grad():
        trained.lm_head.weight += 0.1
    refused(SettingError, r"got those of olmoe with other weights.*foreign=True", trained, trace)
    with replaying(trained, trace, foreign=True):
        trained(trace.tokens[None], use_cache=False)
    refused(SettingError, "traces or weights, got both", routed, trace, trace.weights)
    refused(SettingError, "layers 1 to 2 with 8 experts, got 3 layers with 8", shared_model("deepseek"), trace)
    refused(ShapeError, "all have weights, or none", routed, [trace, replace(trace, weights=None)])


@pytest.mark.parametrize(("changed", "error", "said"), [
    (lambda e: e[:, :-1], ShapeError, r"tokens \(B, T\) = \(2, 10\), as there are routes for, got \(2, 11\)"),
    (lambda e: e[:1], ShapeError, r"tokens \(B, T\) = \(1, 11\)"),
    (lambda e: e[:, :, :2], ShapeError, r"L = 3 MoE layers \(or all 3 decoder layers\), got \(2, 11, 2, 2\)"),
    (lambda e: e[0], ShapeError, r"routes \(B, T, L, k\)"),
    (lambda e: e + 7, ShapeError, "0 to 7, or -1.*of another model"),
    (lambda e: e - 3, ShapeError, "0 to 7, or -1"),
    (lambda e: e.float(), ShapeError, "got torch.float32"),
    (lambda e: torch.zeros_like(e), ShapeError, r"got \[0, 0\], and alike in 66 of 66"),
    (lambda e: torch.where(torch.arange(2) > 0, -1, e), ShapeError, "-1 for all experts of a token in a layer"),
    (lambda e: [], SettingError, r"as a tensor \[B, T, L, k\], or as a list.*got list"),
    (lambda e: e.numpy(), SettingError, r"torch.as_tensor\(…\) of an array"),
])  # fmt: skip
def test_routes_that_do_not_fit_are_refused(changed, error, said):
    model, inputs = model_of("olmoe").train(), batch()
    experts = recorded(model, inputs)[1]
    refused(error, said, model, changed(experts), inputs=inputs)
    step(model, inputs)


def test_zeros_of_one_expert_a_token_are_refused():
    refused(ShapeError, "zeros", tiny_moe("olmoe", num_experts_per_tok=1), torch.zeros(2, 11, 3, 1, dtype=torch.long))


@pytest.mark.parametrize("worst", [float("nan"), -0.1, float("inf")])
def test_weights_that_are_none_are_refused(worst):
    model, inputs = model_of("olmoe"), batch()
    _, experts, weights = recorded(model, inputs)
    weights[0, 0, 0, 0] = worst
    refused(ShapeError, "finite weights", model, experts, weights)
    refused(ShapeError, "in the experts' shape", model, experts, weights[..., :1])


def test_experts_of_more_groups_than_a_router_takes_are_refused():
    model, inputs = model_of("deepseek_v3"), batch()
    experts = recorded(model, inputs)[1].clone()
    experts[0, 0, 0] = torch.tensor([0, 7])
    refused(ShapeError, "in as few groups as DeepseekV3TopkRouter takes", model, experts, inputs=inputs)
    model(**inputs)


def test_a_router_that_does_not_choose_by_topk_needs_weights():
    model, inputs = tiny_moe("phimoe"), batch()
    experts = recorded(model, inputs)[1]
    plain = model(**inputs).logits
    refused(ModelError, "PhimoeTopKRouter chooses them otherwise.*give the weights", model, experts, inputs=inputs)
    assert torch.equal(model(**inputs).logits, plain), "nothing is left behind"


def test_decoding_by_a_cache_is_refused():
    model, inputs = model_of("olmoe"), batch("left")
    experts = recorded(model, inputs)[1]
    with (
        pytest.raises(ShapeError, match=r"Expected tokens \(B, T\) = \(2, 11\).*without a cache"),
        replaying(model, experts),
    ):
        model.generate(inputs["input_ids"], max_new_tokens=3, eos_token_id=None)


def _fail(output):
    raise ZeroDivisionError


def test_a_block_that_runs_nothing_is_an_error_and_what_is_raised_inside_comes_out():
    model, inputs = model_of("olmoe"), batch()
    experts = recorded(model, inputs)[1]
    refused(ModelError, "no hook fired", model, experts)
    with pytest.raises(ZeroDivisionError), replaying(model, experts):
        _fail(model(**inputs))
    refused(SettingError, "a RoutedModel, or a model of transformers", torch.nn.Linear(2, 2), experts)


@pytest.mark.parametrize("weighed", [False, True])
def test_bfloat16_by_autocast(weighed):
    model, inputs = model_of("qwen3_moe"), batch()
    with torch.autocast("cpu", torch.bfloat16):
        logits, experts, weights = recorded(model, inputs)
        with replaying(model.train(), experts, weights if weighed else None):
            got, gradients = step(model, inputs)
    torch.testing.assert_close(got, logits, atol=1e-5, rtol=0)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_a_model_in_bfloat16_goes_along_the_routes_of_one_in_float32():
    model, inputs = tiny_moe("qwen3_moe").train(), batch()
    routes = others(model, inputs)
    with replaying(model, routes):
        wanted = model(**inputs).loss.item()
    with replaying(model.to(torch.bfloat16), routes):
        loss = model(**inputs).loss
        loss.backward()
    assert loss.item() == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3", "granitemoe"])
def test_packed_sequences_are_those_alone_each_along_its_routes(family):
    model = tiny_moe(family).eval().requires_grad_(False)
    sequences = [torch.arange(5 + 9 * length, 5 + 10 * length)[None] for length in (5, 9, 3)]
    routes, alone = [], []
    for ids in sequences:
        routes.append(recorded(model, {"input_ids": ids.flip(1), "use_cache": False})[1])
        with replaying(model, routes[-1]):
            alone.append(model(input_ids=ids, use_cache=False).logits)
    places = torch.cat([torch.arange(ids.shape[1]) for ids in sequences])[None]
    with replaying(model, torch.cat(routes, 1)):
        packed = model(input_ids=torch.cat(sequences, 1), position_ids=places, use_cache=False).logits
    torch.testing.assert_close(packed, torch.cat(alone, 1), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at it
def test_a_model_that_is_compiled_inside_goes_along_the_routes_and_one_that_was_before_is_refused(monkeypatch):
    monkeypatch.setattr("c3po_adaptive.models.replaying._same", lambda *both: not torch.compiler.is_compiling())
    torch._dynamo.reset()
    model, inputs = tiny_moe("qwen3_moe").train(), batch()
    routes, compiled = others(model, inputs), torch.compile(model, backend="eager")
    with replaying(model, routes):
        wanted = step(model, inputs)
        model.zero_grad()
        out = compiled(**inputs)
        out.loss.backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert_same((out.logits.detach(), found), wanted)
    torch._dynamo.reset()
    compiled(**inputs)
    with pytest.raises(ModelError, match=r"torch.compile may ignore hooks"), replaying(model, routes):
        compiled(**inputs)


TARGETS = ["q_proj", "v_proj"]
FUSED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_adapters_of_peft_are_trained_along_the_routes(fused, again):
    peft = pytest.importorskip("peft")
    base, inputs = model_of("olmoe"), batch()
    experts = others(base, inputs)
    sites_of(base)  # found before the adapters are put in, they are found again
    config = peft.LoraConfig(r=2, target_modules=TARGETS, target_parameters=FUSED if fused else None, lora_dropout=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for what will be called otherwise
        with torch.random.fork_rng():
            torch.manual_seed(3)  # of the adapters' other half
            model = peft.get_peft_model(base, config).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    merged = copy.deepcopy(model).merge_and_unload().requires_grad_(True)
    with chosen_by_hand(merged, "olmoe", experts):
        wanted, _ = step(merged, inputs)
    if again:
        checkpointed(base, reentrant=False)
    with replaying(model, experts):
        got, gradients = step(model, inputs)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    assert gradients and all("lora_" in name and gradient.any() for name, gradient in gradients.items())
    assert any("gate" in name for name in gradients) is fused


def test_routers_in_training_are_looked_at_without_dropout_or_random_numbers():
    model = tiny_moe("mixtral").train()
    model.get_decoder().layers[0].eval()
    before = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    sites_of(model)
    assert [module.training for module in model.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
