"""The defences are there by their names, and keep the contract of their role around any other strategy."""

import pytest
from c3po_poison.capped import Capped
from c3po_poison.robust_means import Agreeing, MedianOfMeans

from c3po_adaptive import default_registry
from c3po_adaptive.kernels import Gaussian, Linear
from c3po_adaptive.optimizers import AmortizedNGD, ConstantIntegratedStep, IntegratedStep, KernelRegression
from c3po_adaptive.testing.findings import check_contract

OTHERWISE = [
    ("kernel", Capped(of=Gaussian("median"), cap=0.02)),
    ("kernel", Capped(of=Linear(), cap=1)),
    ("optimizer", MedianOfMeans(of=IntegratedStep(lr=2))),
    ("optimizer", MedianOfMeans(of=AmortizedNGD(lr=0.05), groups=2)),
    ("optimizer", MedianOfMeans(of=KernelRegression(alpha=0.5))),
    ("optimizer", MedianOfMeans(of=ConstantIntegratedStep(lr=2))),
    ("optimizer", Agreeing(of=IntegratedStep(lr=2))),
    ("optimizer", Agreeing(of=KernelRegression(alpha=0.5))),
    ("optimizer", Agreeing(of=ConstantIntegratedStep(lr=2))),
]
"""As they come, they keep it in ``tests/testing/test_findings.py``."""


@pytest.mark.parametrize(("role", "defence"), OTHERWISE, ids=str)
def test_contract(role, defence):
    check_contract(role, defence, defence.name)


def test_they_come_by_entry_points_of_their_own():
    found = {entry.name for entry in default_registry().table() if entry.plugin.startswith("poison.")}
    assert found == {"capped", "median-of-means", "agreeing"}
