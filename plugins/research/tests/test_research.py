"""What holds of everything tried: its role's contract, a run by its name, and what it refuses."""

import math

import pytest
from c3po_research.abstain import Abstain
from c3po_research.agreement import CrossFitted, Shrunken
from c3po_research.clusters import NearestCluster
from c3po_research.learned_layers import Disagreement, Learned
from c3po_research.learned_pathway import LearnedPathway
from c3po_research.lent_attribution import LentAttribution
from c3po_research.reinforced import RLExperts, RLLayers
from c3po_research.transfer import Transfer, TransferNeighbours
from records.made import rows_in
from routing.naive import shared_model
from routing.toys import HashEmbedder, questions
from study.configs import FIXED, parse_config, small_study, with_all_arms, written

from c3po_adaptive import Optimizer, default_registry
from c3po_adaptive.errors import SettingError
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.selectors import Gradient
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.testing import toy_problem
from c3po_adaptive.testing.findings import check_contract

SIGNALS = ("similarity", "agreement", "benefit", "decrease")
QUICK = {"training": 8, "group": 3, "epochs": 2}
OTHERWISE = [
    *(("selector", Abstain(selector=Gradient(n=2, experts=6), signal=signal, training=50)) for signal in SIGNALS),
    ("selector", CrossFitted(level=0.5)),
    ("selector", CrossFitted(n=1, experts=6, rank="score")),
    ("selector", Disagreement(n=2, experts=6, rank="score")),
    ("selector", Learned(n=2, experts=6, training=32)),
    ("selector", LentAttribution(n=2, experts=6)),
    ("selector", RLLayers(experts=6, reward="answer", **QUICK)),
    ("selector", RLLayers(price=0.5, reward="random", **QUICK)),
    ("selector", RLExperts(groups=3, price=0.1, **QUICK)),
    ("selector", RLExperts(groups=24, **QUICK)),
    ("optimizer", Shrunken(sure=0)),
    ("optimizer", Shrunken(radius=0.2, sure=0.5)),
    ("optimizer", LearnedPathway(factors=1, dimensions=2)),
    ("optimizer", LearnedPathway(steps=3)),
    ("retriever", NearestCluster(clusters=3)),
    ("retriever", NearestCluster(clusters=1)),
    ("retriever", TransferNeighbours(k=3, rank=2)),
    ("retriever", TransferNeighbours(reads=("form",))),
    ("kernel", Transfer(rank=1)),
    ("kernel", Transfer(shuffled=True)),
]
"""As they come, they keep it in ``tests/testing/test_findings.py``."""
NGD = {"name": "ngd", "steps": 2}
ONCE = {"name": "constant-integrated-step", "lr": 20}
LEARNED = {"name": "learned", "n": 2, "experts": 5, "training": 32}
ARMS = {
    "base": {"optimizer": "none"},
    "abstain": {"selector": {"name": "abstain", "selector": LEARNED, "training": 50}},
    "cross-fitted": {"selector": {"name": "cross-fitted", "experts": 5, "level": 0.5}},
    "disagreement": {"selector": {"name": "disagreement", "n": 2, "experts": 5}},
    "learned": {"selector": LEARNED},
    "lent-attribution": {"selector": {"name": "lent-attribution", "n": 2, "experts": 5}},
    "rl-experts": {"selector": {"name": "rl-experts", "groups": 4, **QUICK}},
    "rl-layers": {"selector": {"name": "rl-layers", "experts": 5, **QUICK}},
    "learned-pathway": {"optimizer": {"name": "learned-pathway", "steps": 20}, "selector": FIXED},
    "shrunken": {"optimizer": {"name": "shrunken", "sure": 0}, "selector": FIXED},
    "nearest-cluster": {"retriever": {"name": "nearest-cluster", "clusters": 3}, "selector": FIXED},
    "transfer": {"retriever": {"name": "transfer", "k": 8}, "kernel": "transfer", "selector": FIXED},
    "neighbours-expert": {"answerer": "neighbours-expert", "optimizer": "none", "selector": FIXED},
    "told-kind": {"answerer": "told-kind", "optimizer": ONCE, "selector": FIXED},
}
READS = [{"rank": -1}, {"rank": 1.5}, {"reads": ()}, {"reads": ("answer",)}]
WRONG = {
    CrossFitted: [{"level": 0}, {"level": 0.6}, {"n": -1}, {"flips": 3}, {"flips": 20.5}, {"flips": 19, "level": 0.01}],
    LearnedPathway: [{"factors": 0}, {"dimensions": 0}, {"steps": 1.5}, {"lr": 0}, {"decay": -1}],
    NearestCluster: [{"clusters": 0}, {"clusters": 2.5}, {"seed": -1}],
    RLLayers: [{"training": 2}, {"group": 1}, {"epochs": 0}, {"reward": "money"}, {"price": -1}, {"lr": 0}],
    Transfer: READS,
    TransferNeighbours: READS,
}
SURE = {"abstain", "cross-fitted", "learned-pathway"}
"""On so few references of a random model they may well leave all alone."""


@pytest.mark.parametrize(("role", "strategy"), OTHERWISE, ids=str)
def test_contract(role, strategy):
    check_contract(role, strategy, strategy.name)


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_each_by_its_name(tmp_path):
    brought = {entry.name for entry in default_registry().table() if entry.plugin.startswith("research.")}
    assert brought == ARMS.keys() - {"base"}
    arms = {name: {"optimizer": NGD, "learn_from": "all", **arm} for name, arm in ARMS.items()}
    config = small_study(tmp_path).model_copy(update={"arms": parse_config({"arms": arms}).arms})
    written(tmp_path / "references.jsonl", questions(120))
    STUDY.run(config, tmp_path / "run", default_registry())
    rows = rows_in(tmp_path / "run")
    moved = {row["arm"] for row in rows if row["scores"] != row["base_scores"]}
    assert moved | SURE == brought
    assert all(row["strength"] is not None for row in rows if row["arm"] == "abstain")


@pytest.mark.parametrize("parts", [{"retriever": {"name": "transfer", "k": 8}}, {"optimizer": "learned-pathway"}])
def test_a_pool_in_which_one_data_set_has_a_handful(parts):
    """What is learned from so few of the one is finite."""
    few = questions(2, "few")
    pool = build_reference_set(shared_model("olmoe"), [*questions(30), *few], HashEmbedder())
    given = {"embedder": HashEmbedder(), "settings": {"learn_from": "all"}} | parts
    given["selector"] = {"name": "fixed", "layers": "all", "experts": None}
    made = Optimizer(shared_model("olmoe"), pool, **given)
    for question in (questions(1, "t")[0], *few):
        assert all(math.isfinite(score) for score in made.answer(question.question, question.choices).scores)


def test_what_learned_has_one_that_learned_from_nothing():
    method = {"retriever": {"name": "transfer", "k": 30}, "selector": "rl-layers"}
    arms = {"base": {"optimizer": "none"}, "method": method}
    made = with_all_arms({"model": "model", "arms": arms, "controlled": ["method"]}, default_registry()).arms
    assert made["method, random neighbours"].retriever == {"name": "random", "k": 30}
    assert made["method, shuffled retriever"].retriever == method["retriever"] | {"shuffled": True}
    assert made["method, random rewards"].selector == {"name": "rl-layers", "reward": "random"}


@pytest.mark.parametrize(("strategy", "wrong"), [(s, wrong) for s, each in WRONG.items() for wrong in each], ids=str)
def test_settings_are_checked(strategy, wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        strategy(**wrong)


def test_what_learns_has_to_learn_first():
    for ask in (LearnedPathway().optimize, Learned().select, RLLayers().select):
        with pytest.raises(SettingError, match="expected references to learn from"):
            ask(toy_problem(selected=None))
