"""Configurations: what is read is what was written, with settings on top, and nothing unknown."""

import json
from pathlib import Path

import pytest
import yaml
from study.configs import load_config, parse_config
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError, UnknownNameError
from c3po_adaptive.registry import default_registry, new_registry
from c3po_adaptive.remixing.presets import PRESETS
from c3po_adaptive.study.arms import DEMO_ARMS, Arm, OnOneArm, arms_by_name
from c3po_adaptive.study.comparison import ComparisonConfig
from c3po_adaptive.study.data import questions_of, references_of
from c3po_adaptive.study.kinds import read_study
from c3po_adaptive.study.overrides import parsed
from c3po_adaptive.study.study_config import DEMO, Dataset, OnQuestions
from c3po_adaptive.tasks import Cloze

WRITTEN = {
    "model": "OLMoE",
    "datasets": [{"name": "d", "questions": "mmlu", "split": "validation", "references": ["arc_easy"]}],
    "arms": {
        "base": {"optimizer": "none"},
        "x": {"optimizer": "ngd", "kernel": {"name": "gaussian", "sigma": 0.5}, "mix": "top-k"},
    },
    "seed": 3,
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(WRITTEN, sort_keys=False))
    return path


def test_defaults_are_the_demo():
    config = load_config(None)
    assert config == ComparisonConfig()
    assert config.datasets == (DEMO,)
    assert config.arms == dict(DEMO_ARMS)


def test_file_is_read(file):
    config = load_config(file)
    assert (config.model, config.seed, list(config.arms)) == ("OLMoE", 3, ["base", "x"])
    assert config.arms["x"] == Arm(optimizer="ngd", kernel={"name": "gaussian", "sigma": 0.5}, mix="top-k", seed=3)
    assert config.datasets[0].references == ("arc_easy",)


def test_empty_file_is_the_demo(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert load_config(tmp_path / "empty.yaml") == ComparisonConfig()


def test_is_kept_whole_in_json(file):
    config = load_config(file)
    assert parse_config(json.loads(json.dumps(config.model_dump(mode="json")))) == config


class TestSettings:
    def test_a_part_of_the_defaults(self, tmp_path):
        (tmp_path / "demo.yaml").write_text("model: smollm2-moe\n")
        settings = ["datasets.0.limit=5", "arms.ngd.optimizer.lr=1e-3", "format.normalize=characters"]
        config = load_config(tmp_path / "demo.yaml", settings)
        assert config.datasets[0].limit == 5
        assert set(config.arms) == set(ComparisonConfig().arms)
        assert config.arms["ngd"].optimizer == {"name": "ngd", "lr": 0.001}
        assert config.format == {"name": "cloze", "normalize": "characters"}

    def test_a_part_of_the_defaults_of_another_kind(self):
        made = parsed(OnOneArm, {"seed": 4}, ["datasets.0.limit=5", "arm.optimizer.steps=3"])
        assert made.datasets == (DEMO.model_copy(update={"limit": 5}),)
        assert (made.arm.optimizer, made.arm.seed) == ({"name": "ngd", "steps": 3}, 4)

    def test_a_data_set_may_have_a_format_of_its_own(self, file):
        sets = "datasets=[{name: d, questions: mmlu}, {name: e, questions: piqa, format: {normalize: none}}]"
        config = load_config(file, ["format=letter", sets])
        assert [config.format_of(name).name for name in ("d", "e")] == ["letter", "cloze"]
        assert config.format_of("e") == Cloze("none")
        with pytest.raises(UnknownNameError, match="got 'essay'; there are cloze, letter; "):
            load_config(file, ["datasets.0.format=essay"])

    @pytest.mark.parametrize(
        ("setting", "read"),
        [
            ("seed=7", lambda c: c.seed == 7),
            ("model=a=b", lambda c: c.model == "a=b"),
            ("datasets.0.limit=5", lambda c: c.datasets[0].limit == 5),
            ("datasets.0.references=[a, b]", lambda c: c.datasets[0].references == ("a", "b")),
            ("datasets.0.references.0=b", lambda c: c.datasets[0].references == ("b",)),
            ("arms.new.optimizer.steps=2", lambda c: c.arms["new"].optimizer == {"name": "ngd", "steps": 2}),
            ("arms.x.optimizer.steps=2", lambda c: c.arms["x"].optimizer == {"name": "ngd", "steps": 2}),
            ("arms.x.kernel.sigma=1e-1", lambda c: float(c.arms["x"].kernel["sigma"]) == 0.1),
            ("arms.new.selector=random", lambda c: c.arms["new"].selector == "random"),
            ("datasets.0.split=null", lambda c: c.datasets[0].split is None),
        ],
    )
    def test_change_one_thing(self, file, setting, read):
        assert not read(load_config(file, ["+arms.new={}"]))
        assert read(load_config(file, ["+arms.new={}", setting]))

    def test_every_part_of_a_list_or_a_mapping(self, file):
        written = {"a": {"questions": "mmlu", "limit": 3}, "b": {"questions": "piqa"}}
        file.write_text(yaml.safe_dump(WRITTEN | {"datasets": [{"name": n, **d} for n, d in written.items()]}))
        config = load_config(file, ["datasets.*.limit=7", "arms.*.mix=core", "arms.*.selector.n=2"])
        assert [d.limit for d in config.datasets] == [7, 7]
        assert {arm.mix for arm in config.arms.values()} == {"core"}
        assert config.arms["x"].selector == {"name": "fixed", "n": 2}

    def test_an_alias_is_changed_where_it_is_named_alone(self, file):
        file.write_text("arms: {base: {optimizer: none}, a: {optimizer: &o {steps: 1}}, b: {optimizer: *o}}\n")
        arms = load_config(file, ["arms.a.optimizer.steps=5"]).arms
        assert [arms[name].optimizer["steps"] for name in "ab"] == [5, 1]

    def test_keys_of_another_file(self, file, tmp_path):
        other = tmp_path / "other.yaml"
        other.write_text("seed: 5\ndatasets: [{name: e, questions: piqa}]\n")
        config = load_config(file, ["seed=1", f"@{other}", "datasets.0.limit=2"])
        assert (config.seed, config.model) == (5, "OLMoE")
        assert [(d.name, d.limit) for d in config.datasets] == [("e", 2)]
        with pytest.raises(
            SettingError, match=r"YAML configuration, but .*none\.yaml does not exist; see studies/demo"
        ):
            load_config(file, [f"@{tmp_path / 'none.yaml'}"])

    def test_null_takes_an_arm_away_unless_another_key_names_it(self, file):
        file.write_text(yaml.safe_dump(WRITTEN | {"arms": WRITTEN["arms"] | {"y": {"control_of": ["x"]}}}))
        assert [*load_config(file, ["arms.y=null"]).arms] == ["base", "x"]
        with pytest.raises(SettingError, match=r"to name arms, got x \(headline\), x \(arms.y.control_of\); there are"):
            load_config(file, ["headline=x", "arms.x=null"])

    def test_later_ones_win(self, file):
        assert load_config(file, ["seed=1", "seed=2"]).seed == 2

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("seed", "Expected --set key=value, got 'seed'"),
            ("sed=1", r"no 'sed' in a run configuration; did you mean 'seed'\? There are kind, "),
            ("seed=many", "got seed: .*integer, not 'many'.$"),
            ("model=[", "Expected --set with a key .* YAML value"),
            ("datasets.0.limit=0", "datasets.0.limit: .*greater"),
            ("datasets.0.score=generatd", "datasets.0.score: .*got 'generatd'; did you mean 'generated'"),
            (
                "datasets=[{name: d, questions: mmlu, score: generated, format: {name: letter, token: first}}]",
                "token: last of 'd', whose answers are generated .*, got first",
            ),
            ("arms.x.optimiser=ngd", r"no 'optimiser' in arms.x; did you mean 'optimizer'\? There are answerer, "),
            ("max_similarity=1.5", "max_similarity: .*less"),
        ],
    )
    def test_that_fit_nowhere_are_refused(self, file, setting, message):
        with pytest.raises(SettingError, match=message):
            load_config(file, [setting])


class TestSomeArms:
    """``--arm``."""

    ARMS = WRITTEN["arms"] | {"y": {}, "shuffled": {"labels": "shuffled", "control_of": ["x"]}}
    WHOLE = WRITTEN | {"arms": ARMS, "headline": "x", "standard": "y", "compare": [["x", "y"], ["x", "shuffled"]]}

    def test_stand_beside_the_base_with_what_is_compared_of_them(self, file):
        whole = parse_config(self.WHOLE)
        assert whole.only([]) == whole
        some = whole.only(["shuffled", "x"])
        assert ([*some.arms], some.headline, some.standard) == (["base", "x", "shuffled"], "x", None)
        assert [each.pair for each in some.compared] == [("x", "shuffled")]

    def test_that_are_not_there_or_need_others_are_refused(self, file):
        whole = parse_config(self.WHOLE)
        with pytest.raises(UnknownNameError, match=r"got 'shufled'; did you mean 'shuffled'\?"):
            whole.only(["shufled"])
        with pytest.raises(SettingError, match=r"got x \(arms.shuffled.control_of\); there are base, shuffled"):
            whole.only(["shuffled"])
        file.write_text("kind: faults\n")
        with pytest.raises(SettingError, match="arms of a comparison, got a study of kind 'faults'; leave --arm out"):
            read_study(file, registry=default_registry, arms=["x"])

    def test_by_the_commands(self, file):
        file.write_text(yaml.safe_dump(self.WHOLE))
        for command in (["plan", file], ["run", file, "--out", file.parent / "run"]):
            done = CliRunner().invoke(app, ["study", *map(str, command), "--arm", "x", "--arm", "shufled"])
            assert (done.exit_code, "'shufled'; did you mean 'shuffled'" in done.stderr) == (1, True), done.output


class TestPreset:
    """``preset`` of an arm."""

    def test_stands_over_the_run_and_below_the_arm(self):
        arm = {"preset": "nearest", "optimizer": {"lr": 30}, "selector": {"name": "random", "n": 2}, "scope": "answer"}
        config = parse_config(WRITTEN | {"arms": WRITTEN["arms"] | {"x": arm}, "scope": "last", "loss": "lead"})
        x = config.arms["x"]
        assert x.optimizer == {"name": "integrated-step", "lr": 30}, "parameters alone are of the preset's strategy"
        assert x.selector == {"name": "random", "n": 2}
        assert (x.retriever, x.learn_from) == (PRESETS["nearest"].specs["retriever"], "all")
        assert (x.scope, x.loss, config.arms["base"].scope) == ("answer", "lead", "last")
        assert Arm(**arm) == x.model_copy(update={"loss": "choices", "seed": 0})
        kept = config.model_dump(mode="json")
        assert "preset" not in kept["arms"]["x"], "what a preset is may change"
        assert ComparisonConfig.of(kept) == config

    def test_of_a_name_that_there_is_not(self, file):
        with pytest.raises(UnknownNameError, match=r"a preset, got 'nearst'; did you mean 'nearest'"):
            load_config(file, ["arms.x.preset=nearst"])


def test_other_kinds_know_no_written_answers():
    asked = {"name": "d", "questions": "mmlu", "score": "generated"}
    with pytest.raises(SettingError, match="likelihood of 'd', got generated, which comparisons alone have"):
        OnQuestions(datasets=[asked])


@pytest.mark.parametrize("text", ["model: [", "- a\n- list", "just words"])
def test_file_that_is_no_configuration(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(SettingError, match=r"(?s)Expected .*bad\.yaml.*see studies/demo"):
        load_config(tmp_path / "bad.yaml")


def test_arms_of_the_demo_can_be_made():
    registry = new_registry()
    for arm in DEMO_ARMS.values():
        for role in ("optimizer", "kernel", "retriever", "selector"):
            assert registry.create(role, getattr(arm, role)).name


OWN = {"optimizer": {"name": "integrated-step", "lr": 50}, "retriever": {"name": "faiss-knn", "k": 100}}


@pytest.mark.parametrize(
    ("arm", "preset", "specs", "other"),
    [("ngd", "c3po", {}, {}), ("nearest", "nearest", OWN, {"scope": "answer"})],
)
def test_arms_of_the_demo_are_the_presets(arm, preset, specs, other):
    """But for what takes long, for the dose, as an arm's controls go as far as it does, and for fewer references."""
    found, wanted = DEMO_ARMS[arm], PRESETS[preset]
    assert {role: spec for role, spec in found.specs.items() if role != "answerer"} == {**wanted.specs, **specs}
    settings = {**wanted.settings, **other}
    assert {key: getattr(found, key) for key in settings} == settings


def test_arms_of_the_demo_are_those_of_the_study_that_they_are_named_after():
    studies = Path(__file__).parents[2] / "studies"
    asked = yaml.safe_load((studies / "answer" / "second.yaml").read_text(encoding="utf-8"))
    for name, of in (("nearest", "each"), ("constant", "one for all")):
        found, wanted = DEMO_ARMS[name], Arm(learn_from=asked["learn_from"], **asked["arms"][of])
        registry = default_registry()
        for role in ("optimizer", "kernel", "selector"):  # of fewer references fewer are near
            assert registry.create(role, getattr(found, role)) == registry.create(role, getattr(wanted, role))
        assert found.remixing == wanted.remixing, "at the answer's tokens"


@pytest.mark.parametrize(("bound", "arm"), [("oracle", "ngd"), ("nearest-oracle", "nearest")])
def test_bounds_of_the_demo_are_their_arms_with_the_label_known(bound, arm):
    known, own = DEMO_ARMS[bound].model_dump(), DEMO_ARMS[arm].model_dump()
    assert known.pop("optimizer") == {"name": "oracle", "of": own.pop("optimizer")}
    assert known == own


def test_arms_by_name_keep_their_order():
    registry = default_registry()
    assert list(arms_by_name(["oracle", "base"], registry)) == ["oracle", "base"]
    found = arms_by_name(["gradient", "amortized-ngd"], registry)
    paper = PRESETS["c3po"].settings
    assert found == {
        "gradient": Arm(selector="gradient", **paper),
        "amortized-ngd": Arm(optimizer="amortized-ngd", **paper),
    }, "ngd's twins but for one thing"
    rules = arms_by_name(["top-k:1", "top-k@2;ban:3"], registry)
    assert rules == {name: Arm(answerer={"name": "rule", "rule": name}) for name in rules}, "a rule at every token"
    with pytest.raises(UnknownNameError, match="got 'top-q'; did you mean 'top-k'"):
        arms_by_name(["base", "top-q"], registry)
    with pytest.raises(UnknownNameError, match="got 'orakle'; did you mean 'oracle'"):
        arms_by_name(["base", "orakle"], registry)


class TestShares:
    """Parts of a source by a hash of ids: which question is in which does not depend on the rest."""

    def read(self, limit=None, share=None):
        place = {"split": "test", "limit": limit, "share": share}
        return questions_of(Dataset(name="d", questions="demo", **place))

    def test_cover_everything_once(self):
        parts = [self.read(share=share) for share in ((0, 0.25), (0.25, 0.5), (0.5, 1))]
        assert all(parts)
        assert sorted(q.id for part in parts for q in part) == sorted(q.id for q in self.read())

    def test_limit_is_of_the_share(self):
        upper = self.read(share=(0.5, 1))
        assert {q.id for q in self.read(5, (0.5, 1))} < {q.id for q in upper}
        assert len(self.read(5, (0.5, 1))) == 5
        assert self.read(5, (0, 0.5)) == self.read(5), "the order of a limit is that of the shares"

    def test_of_references(self):
        halves = [
            references_of(Dataset(name="d", questions="demo", references=("demo",), references_share=share))
            for share in ((0, 0.5), (0.5, 1))
        ]
        ids = [{q.id for q in half} for half in halves]
        assert all(ids)
        assert not ids[0] & ids[1]

    @pytest.mark.parametrize("share", [[0.5, 0.5], [0.7, 0.2], [-0.1, 1], [0, 1.1]])
    def test_that_are_none_are_refused(self, share):
        with pytest.raises(SettingError, match="a share"):
            parse_config(WRITTEN | {"datasets": [{"name": "d", "questions": "demo", "share": share}]})

    def test_without_any_question(self):
        with pytest.raises(DataError, match=r"share \[0.0, 1e-09\], got none of"):
            self.read(share=(0, 1e-9))
