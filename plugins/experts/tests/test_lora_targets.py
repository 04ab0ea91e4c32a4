"""Experts as PEFT's LoraConfig names them: exactly these get adapters."""

import json

import pytest

pytest.importorskip("peft", reason="the extra tuning is not installed")

from c3po_experts import lora_targets, rank_experts
from peft import LoraConfig, get_peft_model
from torch import nn
from typer.testing import CliRunner

from c3po_adaptive import ModelError, RoutedModel, SettingError, peft_targets
from c3po_adaptive.cli import app
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def adapted(model, config):
    """Names of the modules that have adapters, as the model itself calls them."""
    wrapped = get_peft_model(model, LoraConfig(r=2, **config))  # warns, an error here, of names that are not there
    names = [name for name, _ in wrapped.named_modules() if name.endswith(".lora_A.default")]
    return {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.default").replace(".base_layer", "")
        for name in names
    }, len(names)


@pytest.mark.parametrize(
    ("family", "inside"),
    [
        ("qwen3_moe", {"mlp.experts"}),
        ("gpt_oss", {"mlp.experts"}),
        ("granitemoe", {"block_sparse_moe.experts"}),
        ("jetmoe", {"mlp.input_linear", "mlp.output_linear"}),
    ],
)
def test_where_experts_lie_together_their_layers_are_adapted_whole(family, inside):
    model = RoutedModel(tiny_moe(family), tiny_tokenizer())
    config = json.loads(json.dumps(lora_targets(model, {2: [3, 5], 0: None})))
    reached, adapters = adapted(model.model, config)
    assert reached == {f"model.layers.{layer}.{name}" for layer in (0, 2) for name in inside}
    assert adapters == 4, "two parameters a layer"


def with_modules(family, build):
    """A tiny model whose experts are modules, as other implementations of the family have them."""
    model = tiny_moe(family)
    for name, _ in list(model.named_modules()):
        if name.endswith(".experts"):
            model.get_submodule(name.rpartition(".")[0]).experts = build()
    return model


def an_expert_a_module():
    return nn.ModuleList(nn.ModuleDict({name: nn.Linear(4, 4) for name in PROJECTIONS}) for _ in range(8))


def a_projection_a_module():
    return nn.ModuleDict({f"{name}s": nn.ModuleList(nn.Linear(4, 4) for _ in range(8)) for name in PROJECTIONS})


@pytest.mark.parametrize(
    ("family", "where", "build", "named"),
    [
        ("nemotron_h", "mixer", an_expert_a_module, "{expert}.{name}"),
        ("gpt_oss", "mlp", a_projection_a_module, "{name}s.{expert}"),
    ],
)
def test_where_experts_are_modules_these_alone_are_adapted(family, where, build, named):
    model = with_modules(family, build)
    there = sorted({int(name.split(".")[2]) for name, _ in model.named_modules() if ".experts." in name})
    first, last = there[0], there[-1]
    wanted = {first: [1, 6], last: None}
    reached, _ = adapted(model, lora_targets(model, wanted))
    places = [(first, 1), (first, 6), *((last, expert) for expert in range(8))]
    assert first != last and reached == {
        f"model.layers.{layer}.{where}.experts.{named.format(expert=expert, name=name)}"
        for layer, expert in places
        for name in PROJECTIONS
    }


@pytest.mark.parametrize("family", ["qwen3_moe", "jetmoe", "experts as modules"])
def test_a_model_with_adapters_is_named_as_without(family):
    apart = family == "experts as modules"
    model = with_modules("gpt_oss", an_expert_a_module) if apart else tiny_moe(family)
    experts, others = lora_targets(model, {1: [3], 2: None}), None if apart else peft_targets(model)
    attention = {} if apart else {"target_modules": list(others.target_modules)}
    for named in (get_peft_model(model, LoraConfig(r=2, **experts | attention)), model):
        assert lora_targets(named, {1: [3], 2: None}) == experts
        assert apart or peft_targets(named) == others


def test_layers_to_transform_would_not_hold_for_parameters():
    """Why names are whole."""
    config = {"target_modules": [], "target_parameters": ["mlp.experts.down_proj"], "layers_to_transform": [1]}
    assert adapted(tiny_moe("qwen3_moe"), config)[1] == 3


@pytest.mark.parametrize("model", [tiny_moe("qwen3_moe"), with_modules("gpt_oss", an_expert_a_module)])
@pytest.mark.parametrize(
    ("experts", "said"),
    [
        ({}, "Expected experts of each layer"),
        ({1: []}, "Expected experts of each layer"),
        ({7: [1]}, "Expected layers among 0, 1, 2, which have experts, got 7"),
        ({1: [2, 8]}, "Expected experts of layer 1 from 0 to 7, got 8"),
    ],
)
def test_what_is_not_there_is_refused(model, experts, said):
    with pytest.raises(SettingError, match=said):
        lora_targets(model, experts)


def test_experts_of_a_ranking_are_named_as_the_command_names_them():
    model = with_modules("gpt_oss", an_expert_a_module)
    loaded = RoutedModel(tiny_moe("gpt_oss"), tiny_tokenizer())
    ranking = rank_experts(loaded, ["the boat floats", "who sells bread"], ban="most:1")
    for target in ("least:2", ["costly:1", "5@0"]):
        chosen = ranking.chosen(*([target] if isinstance(target, str) else target))
        assert lora_targets(model, ranking, target) == lora_targets(model, chosen)
    assert lora_targets(model, ranking) == lora_targets(model, ranking.chosen("most:1")), "as the command's default"
    for text in ("3,5@1", ["5@1", "3@1"]):
        assert lora_targets(model, text) == lora_targets(model, {1: [3, 5]})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ("most:1",),
            r"a Ranking for 'most:1', got none; say lora_targets\(model, rank_experts\(model, texts\), 'most:1'",
        ),
        (({1: [3]}, "most:1"), "a Ranking beside target='most:1', got dict"),
        (([0, 1],), r"experts by layer, such as .*, a Ranking or least:2 .*; got \[0, 1\]"),
        (("9@1",), "got expert 9 of layer 1"),
    ],
)
def test_what_names_no_experts_is_refused(given, said):
    with pytest.raises(SettingError, match=said):
        lora_targets(tiny_moe("qwen3_moe"), *given)


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(ModelError, match="got dbrx: its experts read weights"):
        lora_targets(tiny_moe("dbrx"), {0: [1]})
    with pytest.raises(SettingError, match="got Sequential; give the model without what it is wrapped in"):
        lora_targets(nn.Sequential(tiny_moe("olmoe")), {0: [1]})


def test_the_command_writes_what_a_lora_config_takes(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "model", "qwen3_moe")
    (tmp_path / "texts.txt").write_text("the boat floats\nwho sells bread\na stone sinks\n")
    command = ["experts", str(tmp_path / "texts.txt"), "--model", str(folder)]
    file = tmp_path / "lora.json"
    done = CliRunner().invoke(
        app, [*command, "--ban", "most:1", "--peft", str(file), "--target", "costly:1", "--target", "5@0", "--json"]
    )
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["experts"]
    costly = max((row for row in rows if row["ban_cost"] is not None), key=lambda row: row["ban_cost"])["layer"]
    with open(file) as f:
        config = json.load(f)
    assert adapted(tiny_moe("qwen3_moe"), config)[0] == {f"model.layers.{n}.mlp.experts" for n in {0, costly}}
    alone = CliRunner().invoke(app, [*command, "--target", "most:1"])
    assert alone.exit_code == 1 and "Expected --peft beside --target, got none" in alone.stderr
    early = CliRunner().invoke(app, [*command, "--peft", str(tmp_path / "new.json"), "--target", "costly:1"])
    assert early.exit_code == 1 and "Expected at most 0 for 'costly:1'" in early.stderr
