"""Settings that name nothing, or add what there is: refused at every depth, with what is there and the nearest."""

import pytest
import yaml
from study.configs import parse_config, registry

from c3po_adaptive.errors import C3POError, SettingError
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study.arms import DEMO_ARMS, parse_arm
from c3po_adaptive.study.kinds import kinds
from c3po_adaptive.study.overrides import with_settings

COMPARISON = {
    "datasets": [{"name": "d", "questions": "demo"}, {"name": "e", "questions": "demo"}],
    "arms": {"base": {"optimizer": "none"}, "adaptive": {"selector": {"name": "fixed", "n": 2}}},
}
SPEED = {
    "kind": "speed",
    "cases": {"warm": {"optimizer": "ngd"}},
    "curves": {"batch": {"over": "batch", "values": [1, 2]}},
    "models": {"small": {"family": "olmoe", "settings": {"num_experts": 4}}},
    "searches": {"near": {"retriever": "faiss-knn"}},
}
CONFIGS = {"comparison": COMPARISON, "speed": SPEED}

NOTHING = [
    ("comparison", "bach_size=1", "batch_size"),
    ("comparison", "arm.adaptive.mix=core", "arms"),
    ("comparison", "arms.adpative.selector.n=5", "adaptive"),
    ("comparison", "arms.Adaptive.selector.n=5", "adaptive"),
    ("comparison", "arms.adaptive.slector.n=5", "selector"),
    ("comparison", "arms.adaptive.selector.n.m=5", None),
    ("comparison", "arms.*.lable=own", "labels"),
    ("comparison", "arms.adaptive=", None),
    ("comparison", "arms.=1", None),
    ("comparison", "arms..mix=core", None),
    ("comparison", "controlled.*=1", None),
    ("comparison", "control.*=1", "controlled"),
    ("comparison", "datasets.2.limit=1", None),
    ("comparison", "datasets.-1.limit=1", None),
    ("comparison", "datasets.d.limit=1", None),
    ("comparison", "datasets.*.lmit=1", "limit"),
    ("comparison", "datasets.0.references.0=demo", None),
    ("comparison", "datasets.0.format.normalizze=none", "normalize"),
    ("comparison", "format.normalizze=none", "normalize"),
    ("comparison", "compare.0.1=base", None),
    ("comparison", "seed.x=1", None),
    ("comparison", "*=1", None),
    ("speed", "cases.wram.batch=1", "warm"),
    ("speed", "cases.warm.bach=1", "batch"),
    ("speed", "curves.batch.case.shots=1", None),
    ("speed", "models.small.settings.num_exprts=8", "num_experts"),
    ("speed", "searches.naer.queries=1", "near"),
]


def test_a_list_without_parts_says_so():
    with pytest.raises(SettingError, match=r"no '0' in compare, which is an empty list; set compare itself\.$"):
        parse_config(COMPARISON, ["compare.0.primary=true"])


@pytest.mark.parametrize(("kind", "setting", "nearest"), NOTHING)
def test_what_names_nothing_is_refused(kind, setting, nearest):
    with pytest.raises(SettingError) as refused:
        kinds(registry())[kind].parse(CONFIGS[kind], [setting])
    assert nearest is None or f"did you mean '{nearest}'" in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("comparison", "arms.adaptive.optimizer.stps=1"),
        ("comparison", "arms.*.optimizer.stps=1"),
        ("comparison", "arms.adaptive.optimizer={name: random-change, of: {name: ngd, stps: 1}}"),
        ("speed", "cases.warm.optimizer.stps=1"),
        ("speed", "searches.near.retriever.kk=1"),
    ],
)
def test_parameters_are_refused_by_whoever_makes_the_strategy(kind, setting):
    """Before anything is loaded: plan and run make all of them first."""
    study, found = kinds(registry())[kind], new_registry()
    made = study.parse(CONFIGS[kind], [setting])
    with pytest.raises(SettingError, match=r"Expected parameters of .* got '\w+'"):
        list(study.strategies(made, found))


def test_what_is_there_is_said():
    with pytest.raises(
        SettingError, match=r"no 'adpative' in arms; did you mean 'adaptive'\? There are base, adaptive\. A new one"
    ):
        parse_config(COMPARISON, ["arms.adpative.selector.n=5"])
    with pytest.raises(SettingError, match=r"A new one is written \+arms\.adpative\.selector\.n=…"):
        parse_config(COMPARISON, ["arms.adpative.selector.n=5"])
    with pytest.raises(
        SettingError, match=r"no '7' in datasets, .*by number: datasets.0 \(d\), datasets.1 \(e\), or datasets"
    ):
        parse_config(COMPARISON, ["datasets.7.limit=5"])


@pytest.mark.parametrize(
    ("kind", "setting", "read"),
    [
        ("comparison", "+arms.new={}", lambda c: [*c.arms] == ["base", "adaptive", "new"]),
        ("comparison", "+arms.new.selector.n=5", lambda c: c.arms["new"].selector == {"name": "fixed", "n": 5}),
        ("speed", "+cases.cold.warm=false", lambda c: not c.cases["cold"].warm),
        (
            "speed",
            "+curves.batch.case.shots=1",
            lambda c: {k.shots for k in c.curves["batch"].cases("b").values()} == {1},
        ),
        ("speed", "+models.*.settings.hidden_size=8", lambda c: c.models["small"].settings["hidden_size"] == 8),
        ("speed", "+models.new={family: olmoe}", lambda c: c.models["new"].family == "olmoe"),
    ],
)
def test_what_is_new_is_written_with_a_plus(kind, setting, read):
    assert read(kinds(registry())[kind].parse(CONFIGS[kind], [setting]))
    with pytest.raises(SettingError, match="A new one is written" if "*" not in setting else "no 'hidden_size'"):
        kinds(registry())[kind].parse(CONFIGS[kind], [setting.removeprefix("+")])


@pytest.mark.parametrize(
    "setting",
    [
        *("+batch_size=1", "+arms.adaptive.selector.n=5", "+arms.adaptive.mix=core", "+arms.adaptive={}", "+arms={}"),
        *("+datasets.0.limit=1", "+arms.*.mix=core", "+format.chat=true", "+arms.adaptive.optimizer.steps=2"),
        *("+datasets.2.name=f", "+datasets.2={name: f}", "+bach_size=1", "+arms.adaptive.slector=fixed"),
        *("+arms.={}", "+arms..mix=core", "+=1", "+", "++arms.new={}", "+@FILE", "+arms.new.slector=fixed"),
        *("+arms.*={}", "+seed.x=1"),
    ],
)
def test_a_plus_adds_what_there_is_not_to_a_mapping_and_nothing_else(setting):
    before = yaml.safe_dump(COMPARISON)
    with pytest.raises(SettingError):
        parse_config(COMPARISON, [setting])
    assert yaml.safe_dump(COMPARISON) == before


def test_twice_the_second_is_no_news():
    with pytest.raises(SettingError, match=r"leave the \+ out"):
        parse_config(COMPARISON, ["+arms.new.mix=core", "+arms.new.labels=own"])
    assert parse_config(COMPARISON, ["+arms.new.mix=core", "arms.new.labels=shuffled"]).arms["new"].labels == "shuffled"


def test_of_a_list_that_is_none_or_a_record_that_is_text():
    for raw in ({"datasets": {"a": 1}}, {"datasets": "demo"}, {"arms": [1]}, {"arms": {"ngd": "x"}}, {"arms": None}):
        for setting in ("datasets.0.limit=1", "datasets.a.limit=1", "arms.ngd.mix=core", "+arms.new=1", "arms.0=1"):
            with pytest.raises(C3POError):
                parse_config(raw, [setting])


@pytest.mark.parametrize("setting", ["selctor=fixed", "selector.m=1", "+selector.n=1", "arms.x=1", "*.m=1"])
def test_settings_of_an_arm_are_refused_as_those_of_a_configuration(setting):
    def made():
        specs = parse_arm(DEMO_ARMS["nearest"], [setting]).specs
        return [new_registry(installed=False).create(role, spec) for role, spec in specs.items()]

    with pytest.raises(C3POError):
        made()


def test_what_was_written_is_left_alone():
    """An override makes new values: those of a file, or of another run, are not changed by it."""
    raw = {"arms": {"a": {"selector": {"name": "fixed", "n": 2}}}}
    made = with_settings(raw, ["arms.a.selector.n=5", "+arms.b={}"], kinds(registry())["comparison"].config)
    assert made["arms"]["a"]["selector"]["n"] == 5 and [*made["arms"]] == ["a", "b"]
    assert raw == {"arms": {"a": {"selector": {"name": "fixed", "n": 2}}}}
