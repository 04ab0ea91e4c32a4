"""What holds of every rival: its role's contract, a run by its name, and what it refuses."""

from math import inf

import pytest
from c3po_rivals.cor import CoR
from c3po_rivals.entropy_descent import EntropyDescent
from c3po_rivals.expert_preferences import ExpertPreferences
from c3po_rivals.expert_sample import ExpertSample
from c3po_rivals.gumbel_routes import GumbelRoutes
from c3po_rivals.knn_moe import KNNMoE
from c3po_rivals.r2t2_kernel_regression import R2T2KernelRegression
from c3po_rivals.rewiring import Rewiring
from c3po_rivals.roe import RoE
from c3po_rivals.roma import RoMA
from c3po_rivals.router_confidence import RouterConfidence
from c3po_rivals.scmoe import SCMoE
from c3po_rivals.steermoe import SteerMoE
from full_forwards import answered
from records.made import rows_in
from study.configs import FIXED, parse_config, small_study

from c3po_adaptive import default_registry
from c3po_adaptive.errors import ModelError, SettingError
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.testing import toy_problem
from c3po_adaptive.testing.findings import check_contract

OTHERWISE = [
    ("answerer", ExpertPreferences(routes=2, lr=0.1, epochs=2)),
    ("answerer", ExpertSample(samples=2, kept=0, choose="label")),
    ("answerer", GumbelRoutes(choose="label", layers=2)),
    ("answerer", Rewiring(layers=2)),
    # At 0.05 the second and third expert of one token happen to tie within float32: which is mixed is the batch's.
    ("answerer", Rewiring(weighting="soft", lr=0.04)),
    ("answerer", RoMA(warmup=0, lr=1e-2, layers="all")),
    ("optimizer", KNNMoE(k=1)),
    ("optimizer", KNNMoE(k=9, parametrization="projection")),
    ("optimizer", R2T2KernelRegression(steps=1)),
    ("optimizer", SteerMoE(off=20, training=40)),
    ("optimizer", SteerMoE(off=0, on=12, training=40)),
    ("optimizer", SteerMoE(off=30, on=30, training=40)),
    ("selector", CoR(budget=40, training=20)),
    ("selector", CoR(budget=0, training=20)),
    ("selector", RouterConfidence(n=2, experts=6)),
]
"""As they come, they keep it in ``tests/testing/test_findings.py``."""
NGD = {"name": "ngd", "steps": 2}
ARMS = {
    "base": {"optimizer": "none"},
    "cor": {"selector": {"name": "cor", "training": 16}, "optimizer": NGD},
    "entropy-descent": {"optimizer": "entropy-descent", "selector": FIXED},
    "epo": {"answerer": {"name": "epo", "routes": 4, "lr": 0.1, "epochs": 4, "patience": 4}},
    "expert-sample": {"answerer": {"name": "expert-sample", "samples": 2}},
    "gumbel-routes": {"answerer": {"name": "gumbel-routes", "routes": 2}},
    "knn-moe": {"optimizer": {"name": "knn-moe", "steps": 2}, "selector": FIXED},
    "r2t2-kernel-regression": {"optimizer": "r2t2-kernel-regression", "selector": FIXED},
    "rewiring": {"answerer": {"name": "rewiring", "steps": 2}},
    "roe": {"answerer": {"name": "roe", "passes": 2}},
    "roma": {"answerer": {"name": "roma", "warmup": 0, "lr": 0.01, "layers": "all"}},
    "router-confidence": {"selector": {"name": "router-confidence", "n": 2, "experts": 5}, "optimizer": NGD},
    "scmoe": {"answerer": "scmoe"},
    "steermoe": {"optimizer": {"name": "steermoe", "training": 16}, "selector": FIXED},
}
WRONG = {
    CoR: [{"budget": -1}, {"noise": 0}, {"training": 7}],
    EntropyDescent: [{"steps": -1}, {"lr": 0.0}, {"lr_end": 1.0}],
    ExpertPreferences: [{"routes": 0}, {"hard": -1}, {"beta": 0}, {"lr": inf}],
    ExpertSample: [{"samples": 0}, {"kept": -1}, {"temperature": -1}, {"ranks": 0}, {"choose": "vote"}],
    GumbelRoutes: [{"routes": -1}, {"layers": 0}, {"choose": "best"}, {"routes": True}],
    KNNMoE: [{"k": 0}, {"steps": -1}, {"parametrization": "softmax"}],
    R2T2KernelRegression: [{"steps": -1}],
    Rewiring: [{"steps": -1}, {"layers": 0}, {"lr": 0}, {"weighting": "best"}, {"steps": True}],
    RoMA: [{"alignment": -1}, {"weight_decay": inf}, {"warmup": -1}, {"warmup": 1.5}],
    RoE: [{"passes": 0}, {"passes": 1.5}, {"temperature": -1}, {"temperature": inf}],
    SCMoE: [{"alpha": 0}, {"alpha": 1.1}, {"beta": -1}, {"rank": 0}, {"rank": True}],
    SteerMoE: [{"off": -1}, {"on": 1.5}, {"margin": 0}, {"training": 1}],
}


@pytest.mark.parametrize(("role", "rival"), OTHERWISE, ids=str)
def test_contract(role, rival):
    check_contract(role, rival, rival.name)


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_each_by_its_name(tmp_path):
    brought = {entry.name for entry in default_registry().table() if entry.plugin.startswith("rivals.")}
    assert brought == ARMS.keys() - {"base"}
    config = small_study(tmp_path).model_copy(update={"arms": parse_config({"arms": ARMS}).arms})
    STUDY.run(config, tmp_path / "run", default_registry())
    moved = {row["arm"] for row in rows_in(tmp_path / "run") if row["scores"] != row["base_scores"]}
    assert moved == brought


@pytest.mark.parametrize(("rival", "wrong"), [(one, wrong) for one, each in WRONG.items() for wrong in each], ids=str)
def test_settings_are_checked(rival, wrong):
    with pytest.raises(SettingError, match=f"Expected .*{next(iter(wrong))}"):
        rival(**wrong)


def test_what_learns_has_to_learn_first():
    for ask in (CoR().select, SteerMoE().optimize):
        with pytest.raises(SettingError, match="expected references to learn from first"):
            ask(toy_problem(selected=None))


@pytest.mark.parametrize("rival", [ExpertSample(), GumbelRoutes(), Rewiring(), RoE(), SCMoE()], ids=repr)
def test_routers_that_take_no_rule_are_refused(rival):
    with pytest.raises(ModelError, match="cannot be had for this family"):
        answered(rival, "deepseek_v3")
